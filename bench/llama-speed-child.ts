// llama.cpp's prompt speed in a process of its own: reads a SpeedRequest on stdin, prints a SpeedAnswer.

import { getLlama, LlamaLogLevel, type Token } from 'node-llama-cpp';

export interface SpeedRequest {
  file: string;
  windows: number[][];
  threads: number;
}

export interface SpeedAnswer {
  tokensPerSecond: number;
}

let input = '';
for await (const chunk of process.stdin) input += chunk;
const { file, windows, threads } = JSON.parse(input) as SpeedRequest;
const llama = await getLlama({
  gpu: false,
  build: 'never',
  progressLogs: false,
  maxThreads: threads,
  logLevel: LlamaLogLevel.error,
});
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({ contextSize: 512, batchSize: 512, flashAttention: false, threads });
const sequence = context.getSequence();
const evaluate = async (tokens: number[]) => {
  await sequence.clearHistory();
  await sequence.evaluateWithoutGeneratingNewTokens(tokens as Token[]);
};
await evaluate(windows[0]);
const started = performance.now();
for (const tokens of windows) await evaluate(tokens);
const seconds = (performance.now() - started) / 1000;
process.stdout.write(`\n${JSON.stringify({ tokensPerSecond: windows.flat().length / seconds })}\n`);
await llama.dispose();
