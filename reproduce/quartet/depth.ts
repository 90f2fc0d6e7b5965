// Gradients on their way down a trained model: how far backward rounding turns and shortens them.
//
// The model computes forward in f32; only the products that carry the gradient of activations down are rounded. At the
// output of each projection onto the residual stream (o_proj and down_proj of every block) the gradient g_q of a token is
// compared with that of the f32 pass,
//   cosine ⟨g_q, g⟩ / |g_q||g|,   alignment ⟨g_q, g⟩ / ⟨g, g⟩ (1: its magnitude is kept),
// and averaged over the tokens of a window and the passes: windows are the samples.
// Castro et al. 2025 (arXiv:2505.14669) do this with a 30M model, and with signs after the transform.

import type { Backend, Executable } from '../../src/backends/backend.ts';
import { gradients } from '../../src/graph/differentiate.ts';
import type { Value } from '../../src/graph/graph.ts';
import { matmul } from '../../src/graph/ops/matmul.ts';
import { trace } from '../../src/graph/trace.ts';
import { openCheckpoint } from '../../src/io/open.ts';
import { loadTokenizer } from '../../src/io/tokenizer.ts';
import type { LoadedDecoder } from '../../src/models/loaded.ts';
import { linearWeights } from '../../src/models/tensors.ts';
import { openWeights } from '../../src/models/weights.ts';
import { loadCalibration } from '../../src/quantize/calibration/windows.ts';
import { traceLoss } from '../../src/train/loss-graph.ts';
import { type ProductRecipe, plain } from '../../src/train/recipes/linear-recipe.ts';
import { recipeProducts } from '../../src/train/recipes/products.ts';
import { backwardPma, backwardQuest, backwardRtn, backwardSr } from '../../src/train/recipes/systems/quartet.ts';
import { loadTrainable } from '../../src/train/step.ts';
import type { LayerProducts } from '../../src/train/trainer.ts';
import { shipped } from './texts.ts';

export const depthSchemes = {
  SR: backwardSr.gradInput,
  RTN: backwardRtn.gradInput,
  'RTN-PMA': backwardPma.gradInput,
  QuEST: backwardQuest.gradInput,
} as const satisfies Record<string, ProductRecipe>;

export type DepthScheme = keyof typeof depthSchemes;

export const window = 128;

export interface DepthOptions {
  readonly windows: number;
  /** Passes with random numbers of their own. */
  readonly draws: number;
  readonly seed: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (fraction: number) => void;
}

/** By scheme, for each projection from the last to the first: a value for each window. */
export type Depths = Record<DepthScheme, { layer: string; cosine: number[]; alignment: number[] }[]>;

/** Runs the model that ships over windows of its calibration text. */
export async function gradientsByDepth(backend: Backend, options: DepthOptions): Promise<Depths> {
  const { windows, seed, signal } = options;
  const checkpoint = await openCheckpoint(shipped('qwen3-6m'));
  try {
    const text = {
      source: shipped('calibration.txt.xz'),
      samples: windows,
      window: window + 1,
      sampling: 'spread',
      seed,
    } as const;
    const { ids, samples } = await loadCalibration(text, await loadTokenizer(checkpoint), { signal });
    const model = await loadTrainable(await openWeights(checkpoint), backend, { signal });
    try {
      return await compareSchemes(model, batchOf(ids, samples), samples, options);
    } finally {
      model.dispose();
    }
  } finally {
    await checkpoint.close();
  }
}

function batchOf(ids: Int32Array, windows: number) {
  const rows = (from: number) =>
    Int32Array.from(
      { length: windows * window },
      (_, i) => ids[Math.floor(i / window) * (window + 1) + (i % window) + from],
    );
  return { ids: rows(0), targets: rows(1) };
}

interface Batch {
  readonly ids: Int32Array;
  readonly targets: Int32Array;
}

async function compareSchemes(
  model: LoadedDecoder,
  batch: Batch,
  windows: number,
  options: DepthOptions,
): Promise<Depths> {
  const { draws, seed, signal, onProgress } = options;
  const layers = linearWeights(model.config).map((name) => name.replace(/\.weight$/, ''));
  const [exact] = await passes(model, batch, windows, undefined, 1);
  const width = model.config.hiddenSize;
  const found: Partial<Depths> = {};
  for (const [i, [name, gradInput]] of Object.entries(depthSchemes).entries()) {
    signal?.throwIfAborted();
    const products = recipeProducts(layers, () => ({ ...plain, gradInput }), { seed, longest: 32 });
    const all = await passes(model, batch, windows, products, draws);
    found[name as DepthScheme] = [...exact.keys()].reverse().map((layer) => {
      const reference = exact.get(layer) as Float32Array;
      const compared = all.map((pass) => compareRows(pass.get(layer) as Float32Array, reference, width));
      const mean = (key: 'cosine' | 'alignment') =>
        compared[0].map((_, at) => compared.reduce((sum, pass) => sum + pass[at][key] / draws, 0));
      return { layer, cosine: mean('cosine'), alignment: mean('alignment') };
    });
    onProgress?.((i + 1) / Object.keys(depthSchemes).length);
  }
  return found as Depths;
}

/** The gradients [B·T, C] at each projection onto the residual stream, in the order of the model. */
async function passes(
  { config, types, buffers, backend }: LoadedDecoder,
  batch: Batch,
  windows: number,
  layerProducts: LayerProducts | undefined,
  draws: number,
): Promise<Map<string, Float32Array>[]> {
  const watched = new Map<string, Value>();
  const graph = trace((g) => {
    const inner = layerProducts?.products(g);
    const product = (layer: string) => {
      const compute = inner?.(layer) ?? ((x: Value, w: Value) => matmul(x, w, { transposeB: true }));
      return (x: Value, w: Value) => {
        const y = compute(x, w);
        if (/(o_proj|down_proj)$/.test(layer)) watched.set(layer, y);
        return y;
      };
    };
    const { loss } = traceLoss(g, config, types, { batch: windows, tokens: window, product });
    const found = gradients(g, loss, [...watched.values()]);
    for (const [i, layer] of [...watched.keys()].entries()) g.output(layer, found[i]);
  });
  const run: Executable = await backend.compile(graph, { params: new Map(), states: buffers });
  try {
    for (const [name, values] of Object.entries(batch)) run.write(name, values);
    const all: Map<string, Float32Array>[] = [];
    for (let draw = 0; draw < draws; draw++) {
      for (const [name, values] of layerProducts?.inputs(draw) ?? [])
        if (graph.inputs.has(name)) run.write(name, values);
      await run.run();
      const read = new Map<string, Float32Array>();
      for (const layer of watched.keys()) read.set(layer, Float32Array.from((await run.read(layer)).data));
      all.push(read);
    }
    return all;
  } finally {
    run.dispose();
  }
}

/** Means over the tokens of each window. */
function compareRows(found: Float32Array, exact: Float32Array, width: number) {
  const rows = exact.length / width;
  const windows = rows / window;
  const sums = Array.from({ length: windows }, () => ({ cosine: 0, alignment: 0 }));
  for (let r = 0; r < rows; r++) {
    let [along, power, other] = [0, 0, 0];
    for (let c = r * width; c < (r + 1) * width; c++) {
      along += found[c] * exact[c];
      power += exact[c] ** 2;
      other += found[c] ** 2;
    }
    const sum = sums[Math.floor(r / window)];
    sum.cosine += along / Math.sqrt(power * other) / window;
    sum.alignment += along / power / window;
  }
  return sums;
}
