// The op quantize by the SIMD kernels of kernels/quantize, where they know the format.
//
// Their argument block holds numbers that follow from the data when a scale covers the whole tensor. Every thread
// therefore copies the block to its own scratch and completes it from the maxima that a command before this one
// gathered; all threads compute the same numbers. A fixed scale stands where the largest magnitude would, with 1 as the
// divisor; the maxima then only tell whether all values are finite.
//
// Words: maxima, 1 for a tensor scale, 1 for one scale of the whole tensor, tensor scale (address), element maximum
// and scale maximum (f64, two words each), copies (128 bytes a thread), bits of a fixed scale or 0, then the 30 words of quantizeRows.

import { nonFiniteError } from '../../../data-error-codes';
import { address, at, word } from '../common/args';
import { quantizeRows } from '../quantize/index';
import { reportError } from './error';
import { tensorScaleOf } from './quantize-spec';

const template: usize = 40;
const templateBytes: usize = 120;
const divisorAt: usize = 4 * 17;
const tensorScaleAt: usize = 4 * 18;
const statusAt: usize = 4 * 28;
const fixedMaximumAt: usize = 4 * 29;

export function quantizeByRows(args: usize, thread: i32, threads: i32): void {
  const maxima = address(args, 0);
  const maximum = load<f64>(args + 16);
  const copy = address(args, 8) + (<usize>thread << 7);
  memory.copy(copy, args + template, templateBytes);
  let g: f32 = 1;
  if (word(args, 1) != 0) {
    g = tensorScaleOf(maxima, threads, maximum, load<f64>(args + 24));
    store<f32>(copy + tensorScaleAt, g);
    store<f32>(copy + divisorAt, <f32>(maximum * <f64>g));
  }
  if (word(args, 2) != 0) {
    let bits: i32 = 0;
    for (let t = 0; t < threads; t++) bits = max(bits, load<i32>(at(maxima, t)));
    if (bits >= 0x7f800000) {
      reportError(nonFiniteError, 0);
      return;
    }
    const fixed = word(args, 9);
    store<i32>(copy + fixedMaximumAt, fixed != 0 ? fixed : bits);
  }
  if (thread == 0) store<f32>(address(args, 3), g);
  quantizeRows(copy, thread, threads);
  const bad = load<i32>(at(load<usize>(copy + statusAt), thread));
  if (bad != 0) reportError(nonFiniteError, bad - 1);
}
