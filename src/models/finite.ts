// Search for NaN and infinities in weights before they spread through every result.
//
// Float storage is scanned bit by bit (all exponent bits set); of quantized matrices only the scales can be
// non-finite, and they are scanned in their own formats. ggml blocks hold f16 scales inside and are not scanned here:
// a NaN there shows up as a non-finite perplexity.

import type { Quantized, ScaleFormat } from '../formats/format.ts';
import type { AnyTensor } from '../tensor/tensor.ts';

/** Index of the first element (or scale) that is NaN or infinite, or −1. */
export function firstNonFinite(tensor: AnyTensor): number {
  if (tensor.kind === 'packed') return firstInPacked(tensor.data);
  if (tensor.dtype === 'i32') return -1;
  const { data } = tensor;
  for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i])) return i;
  return -1;
}

function firstInPacked(q: Quantized): number {
  if (q.format.kind === 'float') return firstInBytes(q.codes, q.format.name);
  if (!Number.isFinite(q.tensorScale)) return 0;
  return q.format.kind === 'quant' ? firstInBytes(q.scales, q.format.scale.format) : -1;
}

function firstInBytes(bytes: Uint8Array, format: ScaleFormat): number {
  switch (format) {
    case 'f16':
      return firstInHalves(aligned(bytes, 2), 0x7c00);
    case 'bf16':
      return firstInHalves(aligned(bytes, 2), 0x7f80);
    case 'f32':
      return firstMasked(new Uint32Array(aligned(bytes, 4)), 0x7f800000);
    case 'e4m3':
      return firstMasked(bytes, 0x7f);
    case 'e8m0':
    case 'ue5m3':
    case 'e6m2':
      return bytes.indexOf(0xff);
  }
}

function firstMasked(words: Uint8Array | Uint16Array | Uint32Array, mask: number): number {
  for (let i = 0; i < words.length; i++) if ((words[i] & mask) === mask) return i;
  return -1;
}

/**
 * The same for 16-bit words, two at a time: an exponent of all ones plus its lowest bit carries into the sign's place
 * and no further. Stretches without such a carry need no second look.
 */
function firstInHalves(buffer: ArrayBuffer, mask: number): number {
  const words = new Uint16Array(buffer);
  const pairs = new Int32Array(buffer, 0, words.length >> 1);
  const both = mask | (mask << 16);
  const lowest = mask & -mask;
  const ones = lowest | (lowest << 16);
  const stretch = 8192;
  for (let start = 0; start < pairs.length; start += stretch) {
    const end = Math.min(pairs.length, start + stretch);
    let carried = 0;
    for (let i = start; i < end; i++) carried |= (pairs[i] & both) + ones;
    if ((carried & 0x80008000) === 0) continue;
    const at = firstMasked(words.subarray(2 * start, 2 * end), mask);
    if (at >= 0) return 2 * start + at;
  }
  const last = 2 * pairs.length;
  return last < words.length && (words[last] & mask) === mask ? last : -1;
}

/** The bytes as a buffer of whole words; copied only where the view is not aligned or not the whole buffer. */
function aligned(bytes: Uint8Array, size: number): ArrayBuffer {
  const whole = bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength;
  const words = whole ? bytes : bytes.slice(0, bytes.byteLength - (bytes.byteLength % size));
  return words.buffer as ArrayBuffer;
}
