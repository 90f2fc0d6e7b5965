// Formats × methods on a real model: perplexity on two texts, divergence, time, peak memory. The tables of
// docs/methods.md come from here; `--table` prints them.
//
//   node bench/methods.ts --model MODEL --calib train.txt.xz --text val=val.txt.xz --text wikitext2=wikitext2-test.txt.xz \
//     --out bench/results/methods-MODEL.jsonl [--only REGEX] [--tokens 98304] [--threads 2] [--jobs 1]
//   node bench/methods.ts --table bench/results/methods-MODEL.jsonl
//
// Every row runs in its own process; rows that the output file has are left out, so that a stopped run goes on.

import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openCheckpoint } from '../src/io/open.ts';
import { openWeights } from '../src/models/weights.ts';
import { type Cell, cellsFor } from './methods-cells.ts';
import type { CellRequest, CellResult } from './methods-child.ts';
import { printTables } from './methods-table.ts';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'models/qwen3-6m' },
    calib: { type: 'string', default: 'models/calibration.txt.xz' },
    text: { type: 'string', multiple: true, default: ['val=models/val.txt.xz'] },
    out: { type: 'string', default: 'methods.jsonl' },
    only: { type: 'string', default: '' },
    tokens: { type: 'string', default: '98304' },
    samples: { type: 'string', default: '128' },
    threads: { type: 'string', default: String(availableParallelism()) },
    jobs: { type: 'string', default: '1' },
    table: { type: 'string' },
  },
});

const readResults = (file: string): CellResult[] =>
  existsSync(file)
    ? readFileSync(file, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as CellResult)
    : [];
const keyOf = ({ table, format, method }: Pick<Cell, 'table' | 'format' | 'method'>) =>
  `${table} | ${format} | ${method}`;

/** 128 where it divides the input of every layer, else 64. */
async function groupOf(model: string): Promise<number> {
  const weights = await openWeights(await openCheckpoint(model));
  const widths = weights.names().filter((name) => weights.role(name) === 'linear');
  return widths.every((name) => weights.shape(name)[1] % 128 === 0) ? 128 : 64;
}

function runCell(cell: Cell): Promise<CellResult> {
  const folder = path.join(tmpdir(), `subbyte-methods-${process.pid}-${cells.indexOf(cell)}`);
  mkdirSync(folder, { recursive: true });
  const request: CellRequest = {
    model: values.model,
    calib: values.calib,
    samples: Number(values.samples),
    texts: Object.fromEntries(values.text.map((text) => text.split('=') as [string, string])),
    tokens: Number(values.tokens),
    threads: Number(values.threads),
    folder,
    cell,
  };
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('methods-child.ts', import.meta.url)), JSON.stringify(request)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let output = '';
  child.stdout.on('data', (data) => {
    output += data;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => {
      rmSync(folder, { recursive: true, force: true });
      if (code === 0) resolve(JSON.parse(output) as CellResult);
      else reject(new Error(`${keyOf(cell)} failed`));
    });
  });
}

if (values.table !== undefined) {
  console.log(printTables(readResults(values.table)));
  process.exit(0);
}
const cells = cellsFor(await groupOf(values.model));
const done = new Set(readResults(values.out).map(keyOf));
const wanted = new RegExp(values.only);
const queue = cells.filter((cell) => wanted.test(keyOf(cell)) && !done.has(keyOf(cell)));
mkdirSync(path.dirname(values.out), { recursive: true });
const worker = async () => {
  for (let cell = queue.shift(); cell; cell = queue.shift()) {
    try {
      const result = await runCell(cell);
      appendFileSync(values.out, `${JSON.stringify(result)}\n`);
      const figures = Object.entries(result.perplexity).map(([name, ppl]) => `${name} ${ppl.toFixed(3)}`);
      console.error(
        `${keyOf(cell)}: ${figures.join(', ')}, KL ${result.kl.toFixed(4)}, ${result.seconds.toFixed(1)} s`,
      );
    } catch (error) {
      console.error(String(error));
    }
  }
};
await Promise.all(Array.from({ length: Number(values.jobs) }, worker));
process.exit(0);
