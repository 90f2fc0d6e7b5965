// Runs llama.cpp (node-llama-cpp, CPU) on one GGUF file and prints one JSON line.
//
// A program of its own because llama.cpp aborts the process on many broken files. Request on stdin:
// { file, windows: number[][], text }. Answer: token ids of the text and, for each window, the negative log-likelihood
// of each token after the first, from llama.cpp's logits.

import { getLlama, LlamaLogLevel, type Token } from 'node-llama-cpp';

export interface LlamaRequest {
  file: string;
  /** Token windows; each is evaluated from an empty cache, without BOS. */
  windows: number[][];
  text: string;
}

export interface LlamaAnswer {
  tokens: number[];
  /** tokens turned back into text. */
  detokenized: string;
  nll: number[][];
  /** llama.cpp's own description, for example `llama 15.7M Q4_K - Small`. */
  description: string;
  log: string[];
}

let input = '';
for await (const chunk of process.stdin) input += chunk;
const request = JSON.parse(input) as LlamaRequest;

const log: string[] = [];
const llama = await getLlama({
  gpu: false,
  build: 'never',
  progressLogs: false,
  maxThreads: 1,
  logLevel: LlamaLogLevel.warn,
  logger: (_, message) => log.push(message.trim()),
});
const model = await llama.loadModel({ modelPath: request.file });
const context = await model.createContext({
  contextSize: Math.max(64, ...request.windows.map((w) => w.length)),
  batchSize: 512,
  flashAttention: false,
});
const sequence = context.getSequence();
const nll: number[][] = [];
for (const window of request.windows) {
  await sequence.clearHistory();
  const results = await sequence.controlledEvaluate(
    window.map((token, i) =>
      i + 1 === window.length
        ? (token as Token)
        : [
            token as Token,
            {
              generateNext: {
                logits: { filter: { tokens: [window[i + 1] as Token], includeTop: 1 } },
                totalLogitWeight: true,
                options: { temperature: 1, topK: 0, topP: 1, minP: 0 },
              },
            },
          ],
    ),
  );
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
const tokens = model.tokenize(request.text, false, 'trimLeadingSpace');
const answer: LlamaAnswer = {
  tokens,
  detokenized: model.detokenize(tokens),
  nll,
  description: model.typeDescription,
  log,
};
process.stdout.write(`${JSON.stringify(answer)}\n`);
await llama.dispose();
