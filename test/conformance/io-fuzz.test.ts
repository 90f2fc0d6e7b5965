// Header parsers against hostile bytes: only SubbyteErrors, no hang, no memory from an unchecked length.
//
// "No memory from an unchecked length" is watched at the source: a ByteSource that counts the bytes asked of it, which
// is everything that readers allocate for file content, and for parsed values by the size of what they return.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SubbyteError } from '../../src/errors.ts';
import { HeaderIncomplete, parseGgufHeader } from '../../src/io/gguf-header.ts';
import { printGgufHeader } from '../../src/io/gguf-print.ts';
import { readGgufHeader } from '../../src/io/gguf-sources.ts';
import type { GgufEntry } from '../../src/io/gguf-types.ts';
import { parseSafetensorsHeader, printSafetensorsHeader } from '../../src/io/safetensors-header.ts';
import { readSafetensorsHeader } from '../../src/io/safetensors-sources.ts';
import type { ByteSource } from '../../src/io/source.ts';
import { memorySource } from '../../src/io/source.ts';
import { concat, text, u64 } from './io-scratch.ts';

const runs = { numRuns: 1500, seed: 42 };

/** Any answer is fine; any error must be ours. */
function onlyOurErrors(parse: () => unknown): unknown {
  try {
    return parse();
  } catch (error) {
    if (error instanceof SubbyteError || error instanceof HeaderIncomplete) return undefined;
    throw error;
  }
}

/** Counts what a reader asks for; refuses what the file does not have, as files do. */
function counted(bytes: Uint8Array, size = bytes.byteLength): ByteSource & { asked: number } {
  const inner = memorySource(bytes, 'fuzz');
  const source = {
    ...inner,
    size,
    asked: 0,
    read: async (offset: number, length: number) => {
      source.asked += length;
      return await inner.read(offset, length);
    },
  };
  return source;
}

const ggufFile = () => {
  const metadata: GgufEntry[] = [
    { key: 'general.architecture', type: 'string', value: 'llama' },
    { key: 'general.alignment', type: 'u32', value: 32 },
    { key: 'a', type: 'string[]', value: ['x', 'yy', 'zzz'] },
    { key: 'b', type: 'f32[]', value: Float32Array.of(1, 2) },
    { key: 'c', type: 'u64', value: 7n },
    { key: 'd', type: 'bool[]', value: [true] },
  ];
  const header = printGgufHeader(
    metadata,
    [
      { name: 'w', dtype: 'ggml:q4_0', shape: [2, 32], byteLength: 36 },
      { name: 'v', dtype: 'F32', shape: [3], byteLength: 12 },
    ],
    32,
  );
  return concat(header, new Uint8Array(96));
};

const safetensorsFile = () => {
  const header = printSafetensorsHeader(
    [
      { name: 'b', dtype: 'F32', shape: [2, 2], byteLength: 16 },
      { name: 'a', dtype: 'BF16', shape: [1], byteLength: 2 },
      { name: 'c', dtype: 'U8', shape: [3], byteLength: 3 },
    ],
    { format: 'pt' },
  );
  return concat(header, new Uint8Array(21));
};

/** Valid bytes with some of them overwritten, a piece cut out or put in, or the end missing. */
const mutated = (valid: Uint8Array) =>
  fc
    .record({
      edits: fc.array(
        fc.record({
          at: fc.nat(valid.byteLength - 1),
          bytes: fc.oneof(
            fc.uint8Array({ minLength: 1, maxLength: 8 }),
            fc.constantFrom(u64(2n ** 63n), u64(2n ** 64n - 1n), u64(2n ** 32n), u64(0n), u64(2n ** 53n), text('9e9')),
          ),
          kind: fc.constantFrom('overwrite', 'insert', 'delete'),
        }),
        { minLength: 1, maxLength: 4 },
      ),
      keep: fc.oneof({ weight: 4, arbitrary: fc.constant(valid.byteLength) }, fc.nat(valid.byteLength)),
    })
    .map(({ edits, keep }) => {
      let bytes = valid;
      for (const { at, bytes: patch, kind } of edits) {
        const i = Math.min(at, bytes.byteLength);
        const after = kind === 'insert' ? i : Math.min(bytes.byteLength, i + patch.byteLength);
        bytes = concat(bytes.subarray(0, i), kind === 'delete' ? new Uint8Array(0) : patch, bytes.subarray(after));
      }
      return bytes.subarray(0, keep);
    });

describe('gguf', () => {
  const valid = ggufFile();

  it('the seed file is valid', () => {
    expect(parseGgufHeader(valid, valid.byteLength, 'seed').tensors).toHaveLength(2);
  });

  it('mutations of a valid file', () => {
    fc.assert(
      fc.property(mutated(valid), (bytes) => {
        onlyOurErrors(() => parseGgufHeader(bytes, bytes.byteLength, 'fuzz'));
      }),
      runs,
    );
  });

  it('random bytes after a right beginning', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (tail) => {
        const bytes = concat(valid.subarray(0, 8), tail);
        onlyOurErrors(() => parseGgufHeader(bytes, bytes.byteLength, 'fuzz'));
        onlyOurErrors(() => parseGgufHeader(tail, tail.byteLength, 'fuzz'));
      }),
      runs,
    );
  });

  it('asks for no more bytes than the file has, and gives values no larger than it', async () => {
    await fc.assert(
      fc.asyncProperty(mutated(valid), async (bytes) => {
        const source = counted(bytes);
        const header = await readGgufHeader(source).catch((error) => {
          if (!(error instanceof SubbyteError)) throw error;
        });
        expect(source.asked).toBeLessThanOrEqual(bytes.byteLength);
        for (const { value } of header?.entries ?? [])
          if (typeof value === 'object' || typeof value === 'string')
            expect(value.length).toBeLessThanOrEqual(bytes.byteLength);
        for (const t of header?.tensors ?? [])
          expect(t.byteOffset + t.byteLength).toBeLessThanOrEqual(bytes.byteLength);
      }),
      { ...runs, numRuns: 500 },
    );
  });

  it('a prefix of any length asks for more or is refused, and the whole then reads', () => {
    for (let length = 0; length < valid.byteLength; length++)
      onlyOurErrors(() => parseGgufHeader(valid.subarray(0, length), valid.byteLength, 'prefix'));
  });
});

describe('safetensors', () => {
  const valid = safetensorsFile();

  it('mutations of a valid file, through the reader', async () => {
    await fc.assert(
      fc.asyncProperty(mutated(valid), async (bytes) => {
        const source = counted(bytes);
        await readSafetensorsHeader(source).then(
          ({ tensors }) => {
            // Accepted: then the rules hold.
            let end = bytes.byteLength - tensors.reduce((n, t) => n + t.byteLength, 0);
            for (const t of tensors) {
              expect(t.byteOffset).toBe(end);
              end += t.byteLength;
            }
            expect(end).toBe(bytes.byteLength);
          },
          (error) => {
            if (!(error instanceof SubbyteError)) throw error;
          },
        );
        expect(source.asked).toBeLessThanOrEqual(bytes.byteLength);
      }),
      runs,
    );
  });

  it('any length field: nothing beyond the file or the format limit is asked for', async () => {
    await fc.assert(
      fc.asyncProperty(fc.bigInt(0n, 2n ** 64n - 1n), fc.nat(200), async (length, size) => {
        // A file that claims to be of 1 TB, of which some bytes exist.
        const source = counted(concat(u64(length), new Uint8Array(size)), 2 ** 40);
        await readSafetensorsHeader(source).catch((error) => {
          if (!(error instanceof SubbyteError)) throw error;
        });
        expect(source.asked).toBeLessThanOrEqual(8 + 100_000_000);
      }),
      { ...runs, numRuns: 500 },
    );
  });

  it('any JSON as header', () => {
    const field = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom('F32', 'U8', 'F4'),
      fc.array(fc.integer(), { maxLength: 3 }),
    );
    const entry = fc.record({ dtype: field, shape: field, data_offsets: field }, { requiredKeys: [] });
    const header = fc.dictionary(
      fc.oneof(fc.string(), fc.constantFrom('__metadata__', '__proto__')),
      fc.oneof(entry, field),
    );
    fc.assert(
      fc.property(header, fc.nat(64), (value, dataBytes) => {
        const json = text(JSON.stringify(value));
        onlyOurErrors(() => parseSafetensorsHeader(json, 8 + json.byteLength + dataBytes, 'fuzz'));
      }),
      runs,
    );
  });

  it('a header of brackets does not exhaust the stack', () => {
    const deep = text(`{"a":${'['.repeat(200_000)}${']'.repeat(200_000)}}`);
    onlyOurErrors(() => parseSafetensorsHeader(deep, 8 + deep.byteLength, 'deep'));
  });
});
