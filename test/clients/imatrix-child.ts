// Reads importance matrices with llama.cpp's own loader: common_imatrix_load of libllama-common, through koffi.
//
// The function is C++, so this program lays out its arguments by hand as libstdc++ has them on x86-64: std::string
// (data, length, 16 bytes in place), std::map (header node at 8, count at 40; nodes: colour, parent, left, right at
// 0 … 24, then key and value) and std::vector (begin, end, capacity). A program of its own, because an error there ends
// the process. stdin: a list of paths; the answer on the last line of stdout, null for a file that is refused.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';

export interface LoadedImatrix {
  entries: Record<string, { sums: number[]; counts: number[] }>;
  datasets: string[];
  chunkCount: number;
  chunkSize: number;
  legacy: boolean;
}

let text = '';
for await (const chunk of process.stdin) text += chunk;
const paths = JSON.parse(text) as string[];

const folder = fileURLToPath(new URL('../../node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/', import.meta.url));
const open = (stem: string) =>
  koffi.load(join(folder, readdirSync(folder).find((f) => f.startsWith(stem)) as string), { global: true });
for (const stem of ['libggml-base', 'libggml.', 'libllama.']) open(stem);
const load = open('libllama-common').func(
  'bool _Z19common_imatrix_loadRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEER14common_imatrix(void *, void *)',
);

type Address = bigint;
const read = (at: Address, bytes: number): Buffer =>
  bytes === 0 ? Buffer.alloc(0) : Buffer.from(koffi.decode(at, koffi.array('uint8_t', bytes)) as Uint8Array);
const pointer = (at: Address): Address => read(at, 8).readBigUInt64LE();
const string = (at: Address) => read(pointer(at), Number(pointer(at + 8n))).toString();
const vector = (at: Address): Buffer => read(pointer(at), Number(pointer(at + 8n) - pointer(at)));

/** The nodes of a red-black tree in order. */
function nodes(at: Address): Address[] {
  if (at === 0n) return [];
  return [...nodes(pointer(at + 16n)), at, ...nodes(pointer(at + 24n))];
}

function loadFile(path: string): LoadedImatrix | null {
  const name = Buffer.from(`${path}\0`);
  const argument = Buffer.alloc(32);
  argument.writeBigUInt64LE(koffi.address(name) as bigint, 0);
  argument.writeBigUInt64LE(BigInt(name.length - 1), 8);
  // map 48 bytes, datasets 24, chunk count and size, two flags; with room to spare.
  const result = Buffer.alloc(256);
  const base = koffi.address(result) as bigint;
  for (const link of [24, 32]) result.writeBigUInt64LE(base + 8n, link);
  if (!load(argument, result)) return null;
  const entries: LoadedImatrix['entries'] = {};
  for (const node of nodes(pointer(base + 16n))) {
    const sums = vector(node + 64n);
    const counts = vector(node + 88n);
    entries[string(node + 32n)] = {
      sums: [...new Float32Array(sums.buffer, sums.byteOffset, sums.length / 4)],
      counts: [...new BigInt64Array(counts.buffer, counts.byteOffset, counts.length / 8)].map(Number),
    };
  }
  const strings = pointer(base + 48n);
  const count = Number(pointer(base + 56n) - strings) / 32;
  return {
    entries,
    datasets: Array.from({ length: count }, (_, i) => string(strings + 32n * BigInt(i))),
    chunkCount: result.readInt32LE(72),
    chunkSize: result.readInt32LE(76),
    legacy: result.readUInt8(80) === 1,
  };
}

const answers = paths.map(loadFile);
process.stdout.write(`\n${JSON.stringify(answers)}\n`, () => process.exit(0));
