// safetensors against the reference writer: a published example byte for byte, and files that transformers saved.

import { appendFileSync, copyFileSync, existsSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openSafetensors } from '../../src/io/safetensors.ts';
import { printSafetensorsHeader } from '../../src/io/safetensors-header.ts';
import { writeSafetensors } from '../../src/io/safetensors-writer.ts';
import { bytesOf, project, qwen, safetensorsFile, scratchFolder, write } from './io-scratch.ts';

const folder = scratchFolder();
const error = async (path: string) =>
  await openSafetensors(path).then(
    () => expect.fail('must be refused'),
    (e) => e as Error & { kind: string; details: { tensor?: string } },
  );

const example = () => {
  const tensor = (name: string, dtype: string, shape: number[], bytes: ArrayLike<number>) => ({
    name,
    dtype,
    shape,
    byteLength: bytes.length,
    data: async () => Uint8Array.from(bytes),
  });
  return [
    tensor('c', 'U8', [3], [1, 2, 3]),
    tensor('a.scale', 'F16', [1], [0x00, 0x3e]),
    tensor('b.weight', 'F32', [2, 2], new Uint8Array(Float32Array.of(0, 1, 2, 3).buffer)),
  ];
};

describe('writer', () => {
  it('gives the bytes of the Python package 0.8.0 for its example, whatever the input order', async () => {
    const path = join(folder, 'example.safetensors');
    await writeSafetensors({ path, tensors: example(), metadata: { format: 'pt' } });
    const header =
      '{"__metadata__":{"format":"pt"},"b.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},' +
      '"a.scale":{"dtype":"F16","shape":[1],"data_offsets":[16,18]},"c":{"dtype":"U8","shape":[3],"data_offsets":[18,21]}}';
    const data = '000000000000803f0000004000004040' + '003e' + '010203';
    const bytes = Buffer.from(bytesOf(path));
    expect(bytes.byteLength).toBe(245);
    expect(bytes.readBigUInt64LE()).toBe(216n);
    expect(bytes.subarray(8, 224).toString()).toBe(header.padEnd(216));
    expect(bytes.subarray(224).toString('hex')).toBe(data);
  });

  it('gives the bytes of every shard that transformers saved', async () => {
    const zoo = process.env.SUBBYTE_ZOO ?? join(project, '../shared/zoo');
    const models = [qwen, join(zoo, 'mixtral-9m')].filter((m) => existsSync(m));
    for (const model of models)
      for (const shard of readdirSync(model).filter((n) => n.endsWith('.safetensors'))) {
        const original = await openSafetensors(join(model, shard));
        const tensors = [...original.tensors.values()]
          .reverse()
          .map((t) => ({ ...t, data: () => original.read(t.name) }));
        const path = join(folder, shard);
        const metadata = Object.fromEntries(original.metadata) as Record<string, string>;
        const { bytes } = await writeSafetensors({ path, tensors, metadata });
        await original.close();
        expect(Buffer.compare(bytesOf(path), bytesOf(join(model, shard)))).toBe(0);
        expect(bytes).toBe(bytesOf(path).byteLength);
      }
  });

  it('shards by size with an index, and reads back', async () => {
    const path = join(folder, 'sharded/model.safetensors');
    const { files } = await writeSafetensors({ path, tensors: example(), maxShardBytes: 6 });
    expect(files.map((f) => basename(f))).toEqual([
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
      'model.safetensors.index.json',
    ]);
    expect(JSON.parse(Buffer.from(bytesOf(files[2])).toString())).toEqual({
      metadata: { total_size: 21 },
      weight_map: {
        'a.scale': 'model-00001-of-00002.safetensors',
        'b.weight': 'model-00002-of-00002.safetensors',
        c: 'model-00001-of-00002.safetensors',
      },
    });
    const model = await openSafetensors(join(folder, 'sharded'));
    for (const t of example()) expect(await model.read(t.name)).toEqual(await t.data());
    expect(await model.readRange('c', 1, 1)).toEqual(Uint8Array.of(2));
    await model.close();
  });

  it('accepts a tensor in pieces, an empty tensor and a scalar', async () => {
    const path = join(folder, 'pieces.safetensors');
    async function* pieces() {
      yield Uint8Array.of(1);
      yield Uint8Array.of(2, 3);
    }
    await writeSafetensors({
      path,
      tensors: [
        { name: 'pieces', dtype: 'U8', shape: [3], byteLength: 3, data: pieces },
        { name: 'empty', dtype: 'F32', shape: [0, 7], byteLength: 0, data: async () => new Uint8Array(0) },
        { name: 'scalar', dtype: 'I64', shape: [], byteLength: 8, data: async () => new Uint8Array(8) },
      ],
    });
    const model = await openSafetensors(path);
    expect(await model.read('pieces')).toEqual(Uint8Array.of(1, 2, 3));
    expect(model.tensors.get('empty')!.shape).toEqual([0, 7]);
    expect((await model.read('scalar')).byteLength).toBe(8);
    await model.close();
  });

  it('refuses what the format cannot hold', async () => {
    const path = join(folder, 'refused.safetensors');
    const [c] = example();
    await expect(writeSafetensors({ path, tensors: [c, c] })).rejects.toThrow(/same name.*tensor c.*refused/);
    await expect(writeSafetensors({ path, tensors: [{ ...c, dtype: 'ggml:q4_0' }] })).rejects.toThrow(/no such dtype/);
    await expect(writeSafetensors({ path, tensors: [{ ...c, shape: [4] }] })).rejects.toThrow(/got 3, expected 4/);
    await expect(writeSafetensors({ path, tensors: [{ ...c, name: '__metadata__' }] })).rejects.toThrow(/reserved/);
    expect(existsSync(path)).toBe(false);
    expect(existsSync(`${path}.partial`)).toBe(false);
  });
});

describe('reader', () => {
  it('reads the project model: 79 tensors in two shards', async () => {
    const model = await openSafetensors(qwen);
    expect(model.tensors.size).toBe(79);
    expect(model.tensors.get('model.embed_tokens.weight')).toMatchObject({ dtype: 'BF16', shape: [2048, 256] });
    let total = 0;
    for (const t of model.tensors.values()) total += t.byteLength;
    expect(total).toBe(12068544);
    expect(new TextDecoder().decode(await model.sidecar('config.json'))).toContain('"qwen3"');
    expect(await model.sidecar('absent.json')).toBeUndefined();
    await expect(model.read('absent')).rejects.toThrow(/no such tensor.*absent/);
    await model.close();
  });

  it('finds tensors beyond 4 GiB', async () => {
    const path = join(folder, 'large.safetensors');
    const large = 3 * 2 ** 31;
    const info = (name: string, byteLength: number) => ({ name, dtype: 'U8', shape: [byteLength], byteLength });
    const header = printSafetensorsHeader([info('a', large), info('b', 4)]);
    writeFileSync(path, header);
    truncateSync(path, header.byteLength + large);
    appendFileSync(path, Uint8Array.of(1, 2, 3, 4));
    const model = await openSafetensors(path);
    expect(await model.read('b')).toEqual(Uint8Array.of(1, 2, 3, 4));
    await model.close();
  });

  const u8 = (begin: number, end: number) => ({ dtype: 'U8', shape: [end - begin], data_offsets: [begin, end] });
  const broken: [string, unknown, number, RegExp, string?][] = [
    ['offset past the end', { a: u8(0, 4), b: u8(4, 12) }, 8, /runs past the end.*got 16?.*tensor b, file/, 'b'],
    ['overlap', { a: u8(0, 4), b: u8(2, 6) }, 6, /overlaps.*got begin 2, expected begin 4.*tensor b/, 'b'],
    ['hole', { a: u8(0, 4), b: u8(5, 6) }, 6, /hole.*tensor b/, 'b'],
    ['bytes after the last tensor', { a: u8(0, 4) }, 6, /bytes follow the last tensor/],
    ['duplicate key', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0061":{}}', 1, /twice.*"a"/],
    ['duplicate field', '{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', 1, /twice.*"dtype"/],
    [
      'unknown dtype',
      { a: { dtype: 'F5', shape: [1], data_offsets: [0, 1] } },
      1,
      /unknown dtype.*"F5".*tensor a/,
      'a',
    ],
    ['prototype as dtype', { a: { dtype: 'constructor', shape: [1], data_offsets: [0, 1] } }, 1, /unknown dtype/, 'a'],
    ['size', { a: { dtype: 'F32', shape: [2], data_offsets: [0, 4] } }, 4, /got 4, expected 8.*tensor a/, 'a'],
    [
      'overflowing shape',
      { a: { dtype: 'F32', shape: [2 ** 52, 2 ** 52], data_offsets: [0, 0] } },
      0,
      /do not fit/,
      'a',
    ],
    ['half a byte', { a: { dtype: 'F4', shape: [3], data_offsets: [0, 2] } }, 2, /byte boundary/, 'a'],
    ['backwards', { a: { dtype: 'U8', shape: [0], data_offsets: [1, 0] } }, 1, /backwards/, 'a'],
    ['negative', { a: { dtype: 'U8', shape: [-1], data_offsets: [0, 0] } }, 0, /non-negative/, 'a'],
    ['fraction', { a: { dtype: 'U8', shape: [1], data_offsets: [0, 1.5] } }, 1, /non-negative integers/, 'a'],
    ['metadata value', { __metadata__: { n: 1 } }, 0, /must be a string/],
    ['entry', { a: 7 }, 0, /must be an object/, 'a'],
    ['no JSON', '{"a":', 0, /no valid JSON/],
    ['no object', '[1, 2]', 0, /does not start with/],
    ['pickle', '\u0080\u0002}q\u0000X', 0, /does not start with/],
  ];
  for (const [name, header, dataBytes, message, tensor] of broken)
    it(`refuses: ${name}`, async () => {
      const e = await error(write(folder, 'broken.safetensors', safetensorsFile(header, dataBytes)));
      expect(e.kind).toBe('model');
      expect(e.message).toMatch(message);
      expect(e.message).toContain('broken.safetensors');
      expect(e.details.tensor).toBe(tensor);
    });

  it('refuses a header length of 10 GB and one beyond the file without allocating it', async () => {
    const lie = (length: bigint) => {
      const bytes = safetensorsFile({}, 100);
      new DataView(bytes.buffer).setBigUint64(0, length, true);
      return bytes;
    };
    expect((await error(write(folder, 'lie.safetensors', lie(10_000_000_000n)))).message).toMatch(
      /above the format limit, got 10000000000 bytes, expected at most 100000000.*lie\.safetensors/,
    );
    expect((await error(write(folder, 'lie.safetensors', lie(1000n)))).message).toMatch(/longer than the file/);
    expect((await error(write(folder, 'lie.safetensors', lie(2n ** 64n - 1n)))).message).toMatch(/above the format/);
    expect((await error(write(folder, 'lie.safetensors', new Uint8Array(5)))).message).toMatch(/too short/);
  });

  it('names a truncated shard and its tensor', async () => {
    const target = join(folder, 'truncated');
    mkdirSync(target);
    for (const f of readdirSync(qwen)) copyFileSync(join(qwen, f), join(target, f));
    const shard = 'model-00002-of-00002.safetensors';
    write(target, shard, bytesOf(join(qwen, shard)).subarray(0, 200_000));
    const e = await error(target);
    expect(e.message).toMatch(/past the end.*tensor model\.layers\.6\..*model-00002-of-00002\.safetensors/);
  });

  it('names a missing shard', async () => {
    const target = join(folder, 'missing');
    mkdirSync(target);
    copyFileSync(join(qwen, 'model.safetensors.index.json'), join(target, 'model.safetensors.index.json'));
    copyFileSync(join(qwen, 'model-00001-of-00002.safetensors'), join(target, 'model-00001-of-00002.safetensors'));
    const e = await error(target);
    expect(e.message).toMatch(/shard model-00002-of-00002\.safetensors is missing, got 1 shards, expected 2/);
    expect(e.kind).toBe('model');
  });

  it('names a tensor that the index promises and the shard lacks, and refuses shards elsewhere', async () => {
    const target = join(folder, 'index');
    mkdirSync(target);
    write(target, 'a.safetensors', safetensorsFile({ a: u8(0, 4) }, 4));
    const index = (map: object) =>
      write(target, 'model.safetensors.index.json', Buffer.from(JSON.stringify({ weight_map: map })));
    index({ a: 'a.safetensors', b: 'a.safetensors' });
    expect((await error(target)).message).toMatch(/promises a tensor.*tensor b, file .*a\.safetensors/);
    index({ a: '../index/a.safetensors' });
    expect((await error(target)).message).toMatch(/plain file name/);
    write(target, 'model.safetensors.index.json', Buffer.from('{'));
    expect((await error(target)).message).toMatch(/index is no valid JSON/);
  });

  it('says that a path is wrong', async () => {
    expect((await error(join(folder, 'nowhere'))).message).toMatch(/no such file/);
    mkdirSync(join(folder, 'empty'));
    expect((await error(join(folder, 'empty'))).message).toMatch(/no \.safetensors file/);
  });
});
