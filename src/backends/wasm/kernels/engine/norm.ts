// Kernels over rows of the last axis: softmax, RMSNorm, LayerNorm. A row belongs to one thread.

import { address, at, loadOne, real, storeOne, word } from '../common/args';
import { exp4 } from '../common/math';
import { shareEnd, shareStart } from '../common/share';
import { maxRow, sumRow, sumSquares } from './rows';

/** Words: x, out, rows, columns. */
export function softmax(args: usize, thread: i32, threads: i32): void {
  const rows = word(args, 2);
  const columns = word(args, 3);
  const rowBytes = (<usize>columns) << 2;
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const x = address(args, 0) + <usize>r * rowBytes;
    const out = address(args, 1) + <usize>r * rowBytes;
    const most = f32x4.splat(maxRow(x, columns));
    let i = 0;
    for (; i + 4 <= columns; i += 4) v128.store(at(out, i), exp4(f32x4.sub(v128.load(at(x, i)), most)));
    for (; i < columns; i++) storeOne(at(out, i), exp4(f32x4.sub(loadOne(at(x, i)), most)));
    scaleRow(out, out, columns, <f32>(<f64>1 / sumRow(out, columns)));
  }
}

function scaleRow(x: usize, out: usize, count: i32, factor: f32): void {
  const f = f32x4.splat(factor);
  let i = 0;
  for (; i + 4 <= count; i += 4) v128.store(at(out, i), f32x4.mul(v128.load(at(x, i)), f));
  for (; i < count; i++) storeOne(at(out, i), f32x4.mul(loadOne(at(x, i)), f));
}

/** x / √(mean(x²) + ε) · weight. Words: x, weight, out, rows, columns, ε. */
export function rmsNorm(args: usize, thread: i32, threads: i32): void {
  const weight = address(args, 1);
  const rows = word(args, 3);
  const columns = word(args, 4);
  const epsilon = <f64>real(args, 5);
  const rowBytes = (<usize>columns) << 2;
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const x = address(args, 0) + <usize>r * rowBytes;
    const out = address(args, 2) + <usize>r * rowBytes;
    const f = f32x4.splat(<f32>(<f64>1 / Math.sqrt(sumSquares(x, columns, 0) / <f64>columns + epsilon)));
    let i = 0;
    for (; i + 4 <= columns; i += 4)
      v128.store(at(out, i), f32x4.mul(f32x4.mul(v128.load(at(x, i)), f), v128.load(at(weight, i))));
    for (; i < columns; i++)
      storeOne(at(out, i), f32x4.mul(f32x4.mul(loadOne(at(x, i)), f), loadOne(at(weight, i))));
  }
}

// @ts-ignore: decorator
@inline
function normalized(x: v128, mean: v128, factor: v128, weight: v128, bias: v128): v128 {
  return f32x4.add(f32x4.mul(f32x4.mul(f32x4.sub(x, mean), factor), weight), bias);
}

/** (x − mean) / √(var + ε) · weight + bias. Words: x, weight, bias, out, rows, columns, ε. */
export function layerNorm(args: usize, thread: i32, threads: i32): void {
  const weight = address(args, 1);
  const bias = address(args, 2);
  const rows = word(args, 4);
  const columns = word(args, 5);
  const epsilon = <f64>real(args, 6);
  const rowBytes = (<usize>columns) << 2;
  const end = shareEnd(rows, 1, thread, threads);
  for (let r = shareStart(rows, 1, thread, threads); r < end; r++) {
    const x = address(args, 0) + <usize>r * rowBytes;
    const out = address(args, 3) + <usize>r * rowBytes;
    const mean = <f32>(sumRow(x, columns) / <f64>columns);
    const variance = sumSquares(x, columns, mean) / <f64>columns;
    const m = f32x4.splat(mean);
    const f = f32x4.splat(<f32>(<f64>1 / Math.sqrt(variance + epsilon)));
    let i = 0;
    for (; i + 4 <= columns; i += 4)
      v128.store(
        at(out, i),
        normalized(v128.load(at(x, i)), m, f, v128.load(at(weight, i)), v128.load(at(bias, i))),
      );
    for (; i < columns; i++)
      storeOne(at(out, i), normalized(loadOne(at(x, i)), m, f, loadOne(at(weight, i)), loadOne(at(bias, i))));
  }
}
