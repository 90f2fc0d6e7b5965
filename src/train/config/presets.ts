// Models and hyper-parameters of the Quartet study (Castro et al. 2025, arXiv:2505.14669), as configs to extend.
//
// A row gives the layers, width and heads of a Llama-style model (head dimension 128), the peak learning rate and the
// steps of 262,144 tokens that make 100 tokens a parameter. Data and tokenizer are left to the config that extends it.

interface Row {
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  readonly learningRate: number;
  /** Training tokens, in units of 10⁹. */
  readonly tokens: number;
}

export const quartetModels: Readonly<Record<string, Row>> = {
  'llama-30m': { layers: 6, hiddenSize: 640, heads: 5, learningRate: 1.2e-3, tokens: 3 },
  'llama-50m': { layers: 7, hiddenSize: 768, heads: 6, learningRate: 1.2e-3, tokens: 5 },
  'llama-100m': { layers: 8, hiddenSize: 1024, heads: 8, learningRate: 6e-4, tokens: 10 },
  'llama-200m': { layers: 10, hiddenSize: 1280, heads: 10, learningRate: 3e-4, tokens: 20 },
  'llama-430m': { layers: 13, hiddenSize: 1664, heads: 13, learningRate: 1.5e-4, tokens: 43 },
  'llama-800m': { layers: 16, hiddenSize: 2048, heads: 16, learningRate: 7.5e-5, tokens: 80 },
  'llama-1600m': { layers: 20, hiddenSize: 2560, heads: 20, learningRate: 3.75e-5, tokens: 160 },
};

const tokensPerStep = 64 * 8 * 512;

/** Data of each preset. */
export const presets: Readonly<Record<string, unknown>> = Object.fromEntries(
  Object.entries(quartetModels).map(([name, { layers, hiddenSize, heads, learningRate, tokens }]) => [
    name,
    {
      model: { family: 'llama', layers, hiddenSize, heads, headDim: 128 },
      batch: { sequences: 64, accumulate: 8, tokens: 512 },
      optimizer: { kind: 'adamw', beta1: 0.9, beta2: 0.95, weightDecay: 0.1, clipNorm: 1 },
      schedule: { kind: 'cosine', learningRate, warmup: 0.1, start: 0.01, final: 0.1 },
      steps: Math.round((tokens * 1e9) / tokensPerStep),
    },
  ]),
);

export const presetNames: readonly string[] = Object.keys(presets);
