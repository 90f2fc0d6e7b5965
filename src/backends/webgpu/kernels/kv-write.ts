// Writing into quantized key/value caches: packed cacheWrite, ringWrite, packChannels.
//
// Parts of packed rows need not begin at whole words. A thread writes one word of the cache and takes each of its bytes
// from the new rows or from what stood there, whichever row it belongs to: two threads that meet in a word write the
// same thing. ringWrite: one thread for each number. packChannels: one thread for each channel of a completed group
// rounds it into scratch (neighbouring threads read neighbouring channels), then words are written as above. A start
// outside the cache is reported, and the cache stays as it is. No workgroup memory, no features.

import { partBytes } from '../../../formats/empty.ts';
import { scaleBytes } from '../../../formats/scale-format.ts';
import { elementBits } from '../../../formats/table.ts';
import { channelSpec, type PackChannelsAttributes, type RingAttributes } from '../../../graph/ops/kv-write.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { cacheRangeError, nonFiniteError } from '../../data-error-codes.ts';
import { forEachItem } from '../entry.ts';
import {
  type Binding,
  type Command,
  dense,
  type EncodeContext,
  type KernelTable,
  type MemoryRange,
  type Names,
  type OpKernel,
  packedOperand,
  read,
  write,
} from '../kernel.ts';
import { valueSource } from '../wgsl/bits.ts';
import { unfusedSource } from '../wgsl/decode.ts';
import { encodeSource, hasEncoder, readsTile } from '../wgsl/encode.ts';

/** Row of token s in a ring (ringRow in graph/ops/kv-attention.ts). */
export const ringRowSource = (width: number, sinks: number) => `
fn ringRow(s: i32) -> i32 { return select(${sinks} + (s - ${sinks}) % ${width - sinks}, s, s < ${sinks}); }
`;

/** Returns after a report when `start` lies outside 0 … last. */
const checkStart = (start: string, last: number) => `let start = ${start}[0];
  if (start < 0 || start > ${last}) { report(${cacheRangeError}u, start); return; }`;

/** Words that `bytes` bytes may touch. */
const touchedWords = (bytes: number, aligned: boolean) => (aligned ? bytes / 4 : Math.floor((bytes + 2) / 4) + 1);

/** cacheWrite of packed rows: codes, scales, zero points. */
export function writePackedRows({ inputs, outputs }: EncodeContext): Command[] {
  const [x, start, cache] = [packedOperand(inputs, 1), dense(inputs, 2), packedOperand(outputs, 0)];
  const [B, S, G, D] = cache.shape;
  const T = x.shape[1];
  const [codes, scales, zeroPoints] = partBytes(cache.format, G, D);
  const part = (row: number, to: number, source: number): Command => {
    const aligned = row % 4 === 0;
    const words = touchedWords(T * row, aligned);
    const merge = (n: Names) => `var word = ${n.cache}[${to / 4}u + w];
  for (var j = 0u; j < 4u; j++) {
    let token = (4u * w + j) / ${row}u;
    let t = token % ${S}u - u32(start); /* wraps before the first */
    if (token < ${B * S}u && t < ${T}u) {
      let byte = (token / ${S}u * ${T}u + t) * ${row}u + (4u * w + j) % ${row}u;
      let fresh = (${n.x}[${source / 4}u + (byte >> 2u)] >> (8u * (byte & 3u))) & 0xffu;
      word = (word & ~(0xffu << (8u * j))) | (fresh << (8u * j));
    }
  }
  ${n.cache}[${to / 4}u + w] = word;`;
    const body = (n: Names) => `${checkStart(n.start, S - T)}
  let batch = i / ${words}u;
  let first = (batch * ${S}u + u32(start)) * ${row}u;
  let w = (first >> 2u) + i % ${words}u;
  if (4u * w >= first + ${T * row}u) { return; }
  ${aligned ? `${n.cache}[${to / 4}u + w] = ${n.x}[${source / 4}u + i];` : merge(n)}`;
    return {
      bindings: { x: read(x), start: read(start), cache: write(cache) },
      reports: true,
      ...forEachItem(B * words, body),
    };
  };
  return [
    part(codes, 0, 0),
    ...(scales > 0 ? [part(scales, cache.layout.scales, x.layout.scales)] : []),
    ...(zeroPoints > 0 ? [part(zeroPoints, cache.layout.zeroPoints, x.layout.zeroPoints)] : []),
  ];
}

const ringWrite: OpKernel = {
  encode({ node, inputs, outputs }) {
    const { sinks } = node.attributes as unknown as RingAttributes;
    const [x, start, ring] = [dense(inputs, 1), dense(inputs, 2), dense(outputs, 0)];
    const [, W, ...row] = ring.shape;
    const T = x.shape[1];
    const width = elementCount(row);
    const body = (n: Names) => `${checkStart(n.start, 2 ** 31 - 1 - T)}
  let t = i / ${width}u % ${T}u;
  let batch = i / ${T * width}u;
  ${n.ring}[(batch * ${W}u + u32(ringRow(start + i32(t)))) * ${width}u + i % ${width}u] = ${n.x}[i];`;
    return [
      {
        bindings: { x: read(x, 'u32'), start: read(start), ring: write(ring, 'u32') },
        reports: true,
        ...forEachItem(elementCount(x.shape), body, ringRowSource(W, sinks)),
      },
    ];
  },
};

/** Groups that `tokens` new tokens can complete. */
const mostGroups = (tokens: number, size: number) => Math.ceil(tokens / size);

function channelSizes({ inputs: [cache], attributes }: EncodeContext['node']) {
  const spec = channelSpec('packChannels', cache.type);
  const { size } = spec.granularity;
  const { tokens } = attributes as unknown as PackChannelsAttributes;
  const groups = mostGroups(tokens, size);
  const groupBytes = (size * elementBits(spec.element)) / 8;
  /** Scratch words of one group of a channel: codes, scale, zero point. */
  const stride = Math.ceil(groupBytes / 4) + 2;
  const rows = elementCount(cache.type.shape.slice(0, 3));
  return { spec, size, groups, groupBytes, stride, rows };
}

const packChannels: OpKernel = {
  unsupported({ inputs: [cache] }) {
    const spec = channelSpec('packChannels', cache.type);
    return hasEncoder(spec) && !readsTile(spec) ? undefined : 'rounding keys to this format during a run';
  },

  scratchBytes(node) {
    const { groups, stride, rows } = channelSizes(node);
    return 4 * rows * groups * stride;
  },

  encode({ node, inputs, outputs, scratch }) {
    const { tokens, sinks } = node.attributes as unknown as PackChannelsAttributes;
    const { spec, size, groups, groupBytes, stride, rows } = channelSizes(node);
    const [ring, start, cache] = [dense(inputs, 1), dense(inputs, 2), packedOperand(outputs, 0)];
    const [, W, G, D] = ring.shape;
    const { cols, layout } = cache;
    const bits = elementBits(spec.element);
    const codeWords = stride - 2;
    const range = (n: Names) => `${checkStart(n.start, sinks + cols - tokens)}
  let firstGroup = u32(max(0, start - ${sinks})) / ${size}u;
  let groups = u32(max(0, start + ${tokens - sinks})) / ${size}u - firstGroup;`;
    const memory: Binding = { range: scratch as MemoryRange, access: 'write', type: 'u32' };
    const round = (n: Names) => `${range(n)}
  let row = i % ${rows}u;
  if (i / ${rows}u >= groups) { return; }
  let group = firstGroup + i / ${rows}u;
  let column = row / ${G * D}u * ${W * G * D}u + row % ${G * D}u;
  var own = noStatistics();
  for (var k = 0u; k < ${size}u; k++) {
    own = gather(own, ${n.ring}[column + u32(ringRow(i32(${sinks}u + group * ${size}u + k))) * ${G * D}u], k);
  }
  if (own.amax >= 0x7f800000u) { report(${nonFiniteError}u, i32(row)); return; }
  let tile = fitTile(own, 1.0);
  let to = (row * ${groups}u + i / ${rows}u) * ${stride}u;
  var out: array<u32, ${codeWords}>;
  for (var k = 0u; k < ${size}u; k++) {
    let x = ${n.ring}[column + u32(ringRow(i32(${sinks}u + group * ${size}u + k))) * ${G * D}u];
    let code = codeOf(x, tile, 0u);
    let place = k * ${bits}u;
    out[place >> 5u] |= code << (place & 31u);
    if ((place & 31u) + ${bits}u > 32u) { out[(place >> 5u) + 1u] |= code >> (32u - (place & 31u)); }
  }
  for (var k = 0u; k < ${codeWords}u; k++) { ${n.scratch}[to + k] = out[k]; }
  ${n.scratch}[to + ${codeWords}u] = tile.code;
  ${n.scratch}[to + ${codeWords + 1}u] = tile.zeroCode;`;
    /** Moves `bytes` bytes of every group from word `field` of scratch to the part of the cache at `to`. */
    const part = (bytes: number, field: number, to: number): Command => {
      const rowBytes = (cols / size) * bytes;
      const words = touchedWords(groups * bytes, false);
      const body = (n: Names) => `${range(n)}
  let first = i / ${words}u * ${rowBytes}u + firstGroup * ${bytes}u;
  let w = (first >> 2u) + i % ${words}u;
  if (4u * w >= first + groups * ${bytes}u) { return; }
  var word = ${n.cache}[${to / 4}u + w];
  for (var j = 0u; j < 4u; j++) {
    let byte = 4u * w + j;
    let row = byte / ${rowBytes}u;
    let group = byte % ${rowBytes}u / ${bytes}u - firstGroup; /* wraps before the first */
    if (row < ${rows}u && group < groups) {
      let at = byte % ${bytes}u;
      let fresh = (${n.scratch}[(row * ${groups}u + group) * ${stride}u + ${field}u + (at >> 2u)] >> (8u * (at & 3u))) & 0xffu;
      word = (word & ~(0xffu << (8u * j))) | (fresh << (8u * j));
    }
  }
  ${n.cache}[${to / 4}u + w] = word;`;
      return {
        bindings: { start: read(start), cache: write(cache), scratch: memory },
        reports: true,
        ...forEachItem(rows * words, body),
      };
    };
    const scale = scaleBytes(spec.scale.format);
    const zero = { none: 0, integer: 1, float: scale }[spec.zeroPoint];
    const prelude = valueSource + unfusedSource + encodeSource(spec) + ringRowSource(W, sinks);
    return [
      {
        bindings: { ring: read(ring, 'u32'), start: read(start), scratch: memory },
        words: { seed: 0, stream: 0 },
        reports: true,
        ...forEachItem(rows * groups, round, prelude),
      },
      part(groupBytes, 0, 0),
      part(scale, codeWords, layout.scales),
      ...(zero > 0 ? [part(zero, codeWords + 1, layout.zeroPoints)] : []),
    ];
  },
};

export const kvWriteKernels: KernelTable = { ringWrite, packChannels };
