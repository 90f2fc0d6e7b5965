// Runs llama.cpp (node-llama-cpp, CPU) on GGUF files and prints one JSON line.
//
// A program of its own because llama.cpp aborts the process on many broken files. stdin: a list of LlamaRequests; the
// answer is a list of LlamaAnswers. Every file is announced on stderr before it is opened, so that an abort has a name.

import { getLlama, LlamaLogLevel, type Token } from 'node-llama-cpp';

export interface LlamaRequest {
  file: string;
  /** Token windows; each is evaluated from an empty cache, without BOS. */
  windows?: number[][];
  /** Texts to tokenize, without special tokens. */
  texts?: string[];
}

export interface LlamaAnswer {
  tokens: number[][];
  /** The tokens of each text turned back into text. */
  detokenized: string[];
  /** For each window the negative log-likelihood of every token after the first, from llama.cpp's logits. */
  nll: number[][];
  /** llama.cpp's own description, for example `llama 15.7M Q4_K - Small`. */
  description: string;
  /** What it warned of. */
  log: string[];
}

let input = '';
for await (const chunk of process.stdin) input += chunk;
const requests = JSON.parse(input) as LlamaRequest[];

let log: string[] = [];
const llama = await getLlama({
  gpu: false,
  build: 'never',
  progressLogs: false,
  maxThreads: 1,
  logLevel: LlamaLogLevel.warn,
  logger: (_, message) => log.push(message.trim()),
});

async function answer({ file, windows = [], texts = [] }: LlamaRequest): Promise<LlamaAnswer> {
  process.stderr.write(`opening ${file}\n`);
  log = [];
  const model = await llama.loadModel({ modelPath: file });
  const nll = await evaluate(model, windows);
  const tokens = texts.map((text) => model.tokenize(text, false));
  const detokenized = tokens.map((t) => model.detokenize(t));
  const result = { tokens, detokenized, nll, description: model.typeDescription, log };
  await model.dispose();
  return result;
}

async function evaluate(model: Awaited<ReturnType<typeof llama.loadModel>>, windows: number[][]): Promise<number[][]> {
  if (windows.length === 0) return [];
  const context = await model.createContext({
    contextSize: Math.max(64, ...windows.map((w) => w.length)),
    batchSize: 512,
    flashAttention: false,
    // ours keeps keys and values in f32
    experimentalKvCacheKeyType: 'F32',
    experimentalKvCacheValueType: 'F32',
  });
  const sequence = context.getSequence();
  const nll: number[][] = [];
  for (const window of windows) {
    await sequence.clearHistory();
    const steps = window.slice(0, -1).map((token, i): [Token, object] => [
      token as Token,
      {
        generateNext: {
          // includeTop: the largest logit, which totalLogitWeight is relative to
          logits: { filter: { tokens: [window[i + 1]], includeTop: 1 } },
          totalLogitWeight: true,
          options: { temperature: 1, topK: 0, topP: 1, minP: 0 },
        },
      },
    ]);
    const results = await sequence.controlledEvaluate([...steps, window[window.length - 1] as Token]);
    nll.push(
      window.slice(1).map((target, i) => {
        const next = results[i]?.next;
        const logit = next?.logits?.get(target as Token);
        if (!next?.logits || logit === undefined || next.totalLogitWeight === undefined)
          throw new Error(`no logits for token ${i}`);
        return Math.log(next.totalLogitWeight) + Math.max(...next.logits.values()) - logit;
      }),
    );
  }
  await context.dispose();
  return nll;
}

const answers: LlamaAnswer[] = [];
for (const request of requests) answers.push(await answer(request));
process.stdout.write(`\n${JSON.stringify(answers)}\n`);
await llama.dispose();
