// GGUF against the Python writer's published example, @huggingface/gguf, and ggml's own loader.

import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gguf } from '@huggingface/gguf';
import { describe, expect, it } from 'vitest';
import { ggmlTypes } from '../../src/formats/ggml/types.ts';
import { dtypeOfGgml } from '../../src/io/ggml-storage.ts';
import { openGguf } from '../../src/io/gguf.ts';
import { parseGgufHeader } from '../../src/io/gguf-header.ts';
import { printGgufHeader } from '../../src/io/gguf-print.ts';
import type { GgufEntry } from '../../src/io/gguf-types.ts';
import { type GgufTensor, writeGguf } from '../../src/io/gguf-writer.ts';
import { bytesOf, concat, ggufString, scratchFolder, text, u32, u64, write } from './io-scratch.ts';

const folder = scratchFolder();
const oracleScript = fileURLToPath(new URL('io-gguf-oracle.mjs', import.meta.url));

interface Oracle {
  keys: { key: string; type: number; value: string | string[] }[];
  tensors: { name: string; type: number; offset: number; size: number }[];
  alignment: number;
  dataOffset: number;
}

function oracle(mode: string, ...paths: string[]): unknown {
  const out = execFileSync(process.execPath, [oracleScript, mode, ...paths], { stdio: ['ignore', 'pipe', 'ignore'] });
  return JSON.parse(out.toString());
}

const pattern = (n: number) => Uint8Array.from({ length: n }, (_, i) => (i * 37 + 11) & 255);
const tensor = (name: string, dtype: string, shape: number[], byteLength: number): GgufTensor => ({
  name,
  dtype,
  shape,
  byteLength,
  data: async () => pattern(byteLength),
});

const everyType: GgufEntry[] = [
  { key: 'general.architecture', type: 'string', value: 'llama' },
  { key: 't.u8', type: 'u8', value: 255 },
  { key: 't.i8', type: 'i8', value: -128 },
  { key: 't.u16', type: 'u16', value: 65535 },
  { key: 't.i16', type: 'i16', value: -32768 },
  { key: 't.u32', type: 'u32', value: 4294967295 },
  { key: 't.i32', type: 'i32', value: -2147483648 },
  { key: 't.f32', type: 'f32', value: Math.fround(1e-5) },
  { key: 't.bool', type: 'bool', value: true },
  { key: 't.string', type: 'string', value: 'Größe ▁ \u0000 🙂' },
  { key: 't.u64', type: 'u64', value: 18446744073709551615n },
  { key: 't.i64', type: 'i64', value: -9223372036854775808n },
  { key: 't.f64', type: 'f64', value: 0.1 },
  { key: 'a.u8', type: 'u8[]', value: [0, 255] },
  { key: 'a.i8', type: 'i8[]', value: [-1] },
  { key: 'a.u16', type: 'u16[]', value: [1, 2, 3] },
  { key: 'a.i16', type: 'i16[]', value: [-5] },
  { key: 'a.u32', type: 'u32[]', value: [4000000000] },
  { key: 'a.i32', type: 'i32[]', value: Int32Array.of(1, -2, 3) },
  { key: 'a.f32', type: 'f32[]', value: Float32Array.of(0.5, -1e30) },
  { key: 'a.bool', type: 'bool[]', value: [true, false, true] },
  { key: 'a.string', type: 'string[]', value: ['a', '', 'Ġthe'] },
  { key: 'a.u64', type: 'u64[]', value: [1n] },
  { key: 'a.i64', type: 'i64[]', value: [-1n] },
  { key: 'a.f64', type: 'f64[]', value: [1 / 3] },
  { key: 'a.empty', type: 'string[]', value: [] },
];

describe('writer', () => {
  it('gives the bytes of gguf-py 0.19.0 for its example', async () => {
    const path = join(folder, 'example.gguf');
    const data = new Uint8Array(Float32Array.from({ length: 64 }, (_, i) => i).buffer);
    const { bytes } = await writeGguf({
      path,
      metadata: [
        { key: 'general.architecture', type: 'string', value: 'llama' },
        { key: 'llama.block_count', type: 'u32', value: 1 },
      ],
      tensors: [{ ...tensor('x.weight', 'F32', [2, 32], 256), data: async () => data }],
    });
    const hex = (h: string) => new Uint8Array(Buffer.from(h.replaceAll(' ', ''), 'hex'));
    const header = concat(
      hex('47475546 03000000 0100000000000000 0200000000000000'),
      hex('1400000000000000'),
      text('general.architecture'),
      hex('08000000 0500000000000000'),
      text('llama'),
      hex('1100000000000000'),
      text('llama.block_count'),
      hex('04000000 01000000 0800000000000000'),
      text('x.weight'),
      hex('02000000 2000000000000000 0200000000000000 00000000 0000000000000000'),
    );
    const expected = concat(header, new Uint8Array(0xa0 - header.byteLength), data);
    expect(expected.byteLength).toBe(416);
    expect(Buffer.from(bytesOf(path)).toString('hex')).toBe(Buffer.from(expected).toString('hex'));
    expect(bytes).toBe(416);
  });

  it('is read alike by ggml: every metadata type, every tensor type, other alignments', async () => {
    const tensors = ggmlTypes.map((t) => tensor(`t.${t.label}`, dtypeOfGgml(t), [3, t.block], 3 * t.bytes));
    const paths = [8, 32, 256].map((a) => join(folder, `all-${a}.gguf`));
    await writeGguf({ path: paths[0], metadata: everyType, tensors, alignment: 8 });
    await writeGguf({ path: paths[1], metadata: everyType, tensors });
    await writeGguf({ path: paths[2], metadata: everyType, tensors, alignment: 256 });
    const seen = oracle('read', ...paths) as Oracle[];
    for (const [i, alignment] of [8, 32, 256].entries()) {
      const ours = await openGguf(paths[i]);
      const theirs = seen[i];
      expect(theirs.alignment).toBe(alignment);
      expect(ours.alignment).toBe(alignment);
      expect(theirs.keys.map((k) => k.key)).toEqual(ours.entries.map((e) => e.key));
      for (const [j, entry] of ours.entries.entries()) {
        if (entry.key === 't.string') continue; // a C string ends at its zero
        const value = entry.value;
        expect(theirs.keys[j].value, entry.key).toEqual(
          typeof value === 'object' ? Array.from(value as ArrayLike<unknown>, String) : String(value),
        );
      }
      expect(theirs.tensors).toEqual(
        [...ours.tensors.values()].map((t, j) => ({
          name: t.name,
          type: ggmlTypes[j].id,
          offset: t.byteOffset - theirs.dataOffset,
          size: t.byteLength,
        })),
      );
      for (const t of tensors) expect(await ours.read(t.name)).toEqual(pattern(t.byteLength));
      await ours.close();
    }
  });

  it('is read alike by @huggingface/gguf', async () => {
    const path = join(folder, 'hf.gguf');
    const tensors = [tensor('e', 'ggml:mxfp4', [2, 3, 64], 6 * 34), tensor('n', 'F32', [7], 28)];
    await writeGguf({ path, metadata: everyType, tensors });
    const theirs = await gguf(path, { allowLocalFile: true, typedMetadata: true });
    const ours = await openGguf(path);
    expect(theirs.tensorInfos.map((t) => ({ name: t.name, shape: t.shape.map(Number), dtype: t.dtype }))).toEqual([
      { name: 'e', shape: [64, 3, 2], dtype: 39 },
      { name: 'n', shape: [7], dtype: 0 },
    ]);
    expect(ours.tensors.get('e')!.shape).toEqual([2, 3, 64]);
    for (const { key, value } of everyType) {
      const plain = ArrayBuffer.isView(value) ? Array.from(value as Float32Array) : value;
      const seen = theirs.typedMetadata[key as keyof typeof theirs.typedMetadata] as { value: unknown };
      expect(seen.value, key).toEqual(plain);
    }
    expect(ours.entries).toEqual(everyType);
    expect(Number(theirs.tensorDataOffset)).toBe(ours.tensors.get('e')!.byteOffset);
    await ours.close();
  });

  it('refuses what the format cannot hold', async () => {
    const path = join(folder, 'refused.gguf');
    const attempt = (tensors: GgufTensor[], metadata: GgufEntry[] = [], alignment = 32) =>
      writeGguf({ path, metadata, tensors, alignment });
    const t = tensor('w', 'ggml:q4_0', [2, 32], 36);
    await expect(attempt([t, t])).rejects.toThrow(/same name.*tensor w, file .*refused\.gguf/);
    await expect(attempt([{ ...t, shape: [2, 33] }])).rejects.toThrow(
      /got K = 33, expected a multiple of 32.*tensor w/,
    );
    await expect(attempt([{ ...t, byteLength: 35 }])).rejects.toThrow(/got 35, expected 36/);
    await expect(attempt([{ ...t, dtype: 'F8_E4M3' }])).rejects.toThrow(/no such tensor type, got F8_E4M3/);
    await expect(attempt([{ ...t, name: 'x'.repeat(64) }])).rejects.toThrow(/1 to 63 bytes, got 64/);
    await expect(attempt([{ ...t, shape: [1, 1, 1, 2, 32] }])).rejects.toThrow(/too many dimensions/);
    await expect(attempt([], [{ key: 'k', type: 'u8', value: 256 }])).rejects.toThrow(/no u8.*"k".*got 256/);
    await expect(attempt([], [{ key: 'k', type: 'string', value: 1 }])).rejects.toThrow(/no string/);
    await expect(attempt([], [{ key: 'k', type: 'i32[]', value: 1 }])).rejects.toThrow(/array of i32/);
    await expect(attempt([], [everyType[0], everyType[0]])).rejects.toThrow(/stands twice/);
    await expect(attempt([], [], 24)).rejects.toThrow(/power of two.*24/);
    expect(existsSync(path)).toBe(false);
  });
});

describe('table of types', () => {
  it('agrees with ggml: block sizes and bytes of every number', () => {
    expect(oracle('types')).toEqual(ggmlTypes.map((t) => [t.id, t.block, t.bytes]));
  });
});

interface Raw {
  name: string;
  dims: (number | bigint)[];
  type: number;
  offset: number | bigint;
}

/** A file built by hand, so that it can lie. */
function raw(options: {
  magic?: string;
  version?: number;
  tensorCount?: bigint;
  keyCount?: bigint;
  keys?: Uint8Array[];
  tensors?: Raw[];
  data?: number;
}): Uint8Array {
  const { keys = [], tensors = [] } = options;
  const head = concat(
    text(options.magic ?? 'GGUF'),
    u32(options.version ?? 3),
    u64(options.tensorCount ?? tensors.length),
    u64(options.keyCount ?? keys.length),
    ...keys,
    ...tensors.map((t) =>
      concat(ggufString(t.name), u32(t.dims.length), ...t.dims.map(u64), u32(t.type), u64(t.offset)),
    ),
  );
  return concat(head, new Uint8Array((32 - (head.byteLength % 32)) % 32), new Uint8Array(options.data ?? 0));
}

describe('reader refuses', () => {
  const w = (more: Partial<Raw> = {}): Raw => ({ name: 'w', dims: [32, 2], type: 0, offset: 0, ...more });
  const key = (name: string, type: number, ...value: Uint8Array[]) => concat(ggufString(name), u32(type), ...value);
  // [name, bytes, message, whether ggml refuses it too]. ggml's product of dimensions wraps around.
  const cases: [string, Uint8Array, RegExp, boolean][] = [
    ['another magic', raw({ magic: 'GGML' }), /does not start with "GGUF"/, true],
    ['version 1', raw({ version: 1 }), /unsupported GGUF version, got 1, expected 3.*current llama\.cpp/, true],
    ['version 2', raw({ version: 2 }), /unsupported GGUF version, got 2, expected 3.*current llama\.cpp/, false],
    ['big-endian', raw({ version: 0x03000000 }), /big-endian.*gguf_convert_endian/, true],
    ['an empty file', new Uint8Array(0), /ends inside the magic/, true],
    ['a hostile tensor count', raw({ tensorCount: 2n ** 60n }), /tensor count is more.*got 1152921504606846976/, true],
    ['a hostile key count', raw({ keyCount: 2n ** 63n }), /key count is more/, true],
    ['a hostile string', raw({ keyCount: 1n, keys: [u64(2n ** 40n)], data: 32 }), /length of the name of key 0/, true],
    [
      'a hostile array',
      raw({ keys: [key('k', 9, u32(6), u64(2n ** 50n))] }),
      /count of metadata key "k" is more/,
      true,
    ],
    ['an array of arrays', raw({ keys: [key('k', 9, u32(9), u64(1))] }), /"k" has an unknown type, got 9/, true],
    ['an unknown value type', raw({ keys: [key('k', 13, u32(9))] }), /unknown type, got 13/, true],
    ['a boolean of 2', raw({ keys: [key('k', 7, Uint8Array.of(2))], data: 8 }), /no boolean, got 2/, false],
    ['a text that is no UTF-8', raw({ keys: [concat(u64(1), Uint8Array.of(0xff), u32(0), u32(0))] }), /UTF-8/, false],
    ['a key twice', raw({ keys: [key('k', 4, u32(1)), key('k', 4, u32(1))] }), /"k" stands twice/, true],
    ['an alignment of 24', raw({ keys: [key('general.alignment', 4, u32(24))] }), /power of two.*got u32 24/, true],
    ['an alignment of 0', raw({ keys: [key('general.alignment', 4, u32(0))] }), /power of two.*got u32 0/, true],
    ['an alignment as text', raw({ keys: [key('general.alignment', 8, ggufString('32'))] }), /power of two/, true],
    [
      '5 dimensions',
      raw({ tensors: [w({ dims: [1, 1, 1, 1, 1] })], data: 32 }),
      /too many dimensions.*got 5.*tensor w/,
      true,
    ],
    [
      'dimensions of 2^60',
      raw({ tensors: [w({ dims: [2n ** 60n, 2n ** 60n] })], data: 64 }),
      /past the end.*tensor w/,
      false,
    ],
    ['a rank of 2^31', raw({ tensorCount: 1n, keys: [], tensors: [], data: 0 }), /tensor count is more/, true],
    ['K off the block', raw({ tensors: [w({ dims: [33, 1], type: 2 })], data: 64 }), /Q4_0.*K = 33.*tensor w/, true],
    ['a removed type', raw({ tensors: [w({ type: 4 })], data: 256 }), /removed ggml type, got 4.*tensor w/, true],
    ['an unknown type', raw({ tensors: [w({ type: 1000 })], data: 256 }), /ggml type, got 1000/, true],
    ['two tensors of one name', raw({ tensors: [w(), w({ offset: 256 })], data: 512 }), /same name.*tensor w/, true],
    ['a long name', raw({ tensors: [w({ name: 'n'.repeat(64) })], data: 256 }), /name is too long/, true],
    [
      'a hole',
      raw({ tensors: [w(), w({ name: 'v', offset: 288 })], data: 1024 }),
      /hole.*offset 288, expected offset 256.*tensor v/,
      true,
    ],
    ['an overlap', raw({ tensors: [w(), w({ name: 'v', offset: 128 })], data: 512 }), /overlap.*tensor v/, true],
    ['an offset of 2^63', raw({ tensors: [w({ offset: 2n ** 63n })], data: 256 }), /offset 9223372036854775808/, true],
    [
      'truncated data',
      raw({ tensors: [w()], data: 255 }),
      /past the end.*got 351 bytes, expected at least 352.*tensor w/,
      false,
    ],
  ];
  for (const [name, bytes, message] of cases)
    it(name, async () => {
      const e = await openGguf(write(folder, 'broken.gguf', bytes)).then(
        () => expect.fail('must be refused'),
        (e) => e as Error & { kind: string },
      );
      expect(e.message).toMatch(message);
      expect(e.message).toContain('broken.gguf');
      expect(e.kind).toBe('model');
    });

  it('nothing that ggml takes, except version 2, truncation, products beyond 64 bits, bad texts and booleans', () => {
    const paths = cases.map(([, bytes], i) => write(folder, `broken-${i}.gguf`, bytes));
    const seen = oracle('read', ...paths) as unknown[];
    for (const [i, [name, , , refused]] of cases.entries()) if (refused) expect(seen[i], name).toBeNull();
  });

  it('an array of 2^24 + 1 bytes, which a file of a gigabyte could hold', () => {
    const prefix = raw({ keys: [key('k', 9, u32(0), u64(2 ** 24 + 1))] });
    expect(() => parseGgufHeader(prefix, 2 ** 30, 'x.gguf')).toThrow(
      /longer than any real array, got 16777217.*x\.gguf/,
    );
  });

  it('a file that another program would take is taken', async () => {
    const model = await openGguf(write(folder, 'good.gguf', raw({ tensors: [w()], data: 256 })));
    expect(model.tensors.get('w')!.shape).toEqual([2, 32]);
    await model.close();
    expect((oracle('read', join(folder, 'good.gguf')) as unknown[])[0]).not.toBeNull();
  });
});

describe('split models', () => {
  const part = (i: number) => join(folder, `split-0000${i}-of-00002.gguf`);
  const meta = (no: number): GgufEntry[] => [
    { key: 'general.architecture', type: 'string', value: 'llama' },
    { key: 'split.no', type: 'u16', value: no },
    { key: 'split.count', type: 'u16', value: 2 },
    { key: 'split.tensors.count', type: 'i32', value: 2 },
  ];

  it('open from any part', async () => {
    await writeGguf({ path: part(1), metadata: meta(0), tensors: [tensor('a', 'F16', [8], 16)] });
    await expect(openGguf(part(1))).rejects.toThrow(/part split-00002-of-00002\.gguf of the split model is missing/);
    await writeGguf({ path: part(2), metadata: meta(1), tensors: [tensor('b', 'F16', [4], 8)] });
    const model = await openGguf(part(2));
    expect([...model.tensors.keys()]).toEqual(['a', 'b']);
    expect(await model.read('b')).toEqual(pattern(8));
    expect(model.metadata.get('split.no')).toBe(0);
    await model.close();
  });

  it('refuse a name in two parts and a wrong number of tensors', async () => {
    await writeGguf({ path: part(2), metadata: meta(1), tensors: [tensor('a', 'F16', [4], 8)] });
    await expect(openGguf(part(1))).rejects.toThrow(/two parts.*tensor a/);
    await writeGguf({ path: part(2), metadata: meta(1), tensors: [] });
    await expect(openGguf(part(1))).rejects.toThrow(/split\.tensors\.count promises, got 1, expected 2/);
  });
});

it('tensors beyond 4 GiB are found', async () => {
  const path = join(folder, 'large.gguf');
  const large = 3 * 2 ** 31;
  const info = (name: string, byteLength: number) => ({ name, dtype: 'I8', shape: [byteLength], byteLength });
  const header = printGgufHeader([], [info('a', large), info('b', 4)], 32);
  writeFileSync(path, header);
  truncateSync(path, header.byteLength + large);
  appendFileSync(path, Uint8Array.of(1, 2, 3, 4));
  const model = await openGguf(path);
  expect(await model.read('b')).toEqual(Uint8Array.of(1, 2, 3, 4));
  expect(await model.readRange('a', large - 2, 2)).toEqual(new Uint8Array(2));
  await model.close();
});

it('headers longer than the first read are read whole', async () => {
  const tokens = Array.from({ length: 60_000 }, (_, i) => `token number ${i} of a large vocabulary`);
  const path = join(folder, 'vocabulary.gguf');
  const metadata: GgufEntry[] = [{ key: 'tokenizer.ggml.tokens', type: 'string[]', value: tokens }];
  expect(printGgufHeader(metadata, [], 32).byteLength).toBeGreaterThan(2 ** 21);
  await writeGguf({ path, metadata, tensors: [tensor('w', 'F32', [1], 4)] });
  const model = await openGguf(path);
  expect(model.metadata.get('tokenizer.ggml.tokens')).toEqual(tokens);
  await model.close();
});
