// Every example runs and prints what its text promises.

import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const folder = fileURLToPath(new URL('../examples', import.meta.url));
const promises: Record<string, RegExp> = {
  '01-formats.ts': /mxfp4 +68 bytes/,
  '02-quantize-in-memory.ts': /original +perplexity \d[\s\S]*nvfp4 +perplexity .*top-1/,
  '03-graph.ts': /wasm: \d+ bytes[\s\S]*largest difference \d\.\de[-+]/,
  '04-gptq.ts': /rounded to nearest +\d\.\d\de-[\s\S]*gptq +\d\.\d\de-[\s\S]*perplexity \d+\.\d+ → \d+\.\d+/,
  '05-train.ts': /f32 +loss 7\.\d+ → 6\.\d+, validation 6\.\d+.*\nquartet +loss 7\.\d+ → 6\.\d+, validation 6\.\d+/,
};

it('every example has an expectation', () => {
  expect(readdirSync(folder).filter((f) => f.endsWith('.ts'))).toEqual(Object.keys(promises));
});

it.each(Object.entries(promises))('%s', async (file, expected) => {
  const { stdout } = await promisify(execFile)(process.execPath, [path.join(folder, file)]);
  expect(stdout).toMatch(expected);
});
