// Optimizer steps in place: graph/ops/optimizers.ts has the formulas. Plain multiplies and adds, so every CPU gives the
// same bits. A run that met a data error changes no state. Moments below the normal range become 0: those of weights
// without gradients would decay to subnormal numbers and stay there, where arithmetic is many times slower.
//
// Words: state addresses and the gradient, the learning rate (address of one f32), for adamw the step (address of one
// i32), count, then the constants.

import { errorAddress } from '../../control.ts';
import { stepError, updatesHeld } from '../../../data-error-codes';
import { address, at, loadOne, real, storeOne, word } from '../common/args';
import { shareEnd, shareStart } from '../common/share';
import { reportError } from './error';
import { bitsAt } from './random';

const unit: i32 = 16;

/** Set by commands before this one, so that all threads find the same. */
// @ts-ignore: decorator
@inline
function hasFailed(): bool {
  return atomic.load<i32>(errorAddress) != 0;
}

// @ts-ignore: decorator
@inline
function put(single: bool, to: usize, v: v128): void {
  if (single) storeOne(to, v);
  else v128.store(to, v);
}

// @ts-ignore: decorator
@inline
function get(single: bool, from: usize): v128 {
  return single ? loadOne(from) : v128.load(from);
}

const smallestNormal: usize = memory.data<f32>([1.1754943508222875e-38]);

/** 0 for numbers below the normal range; NaN stays. */
// @ts-ignore: decorator
@inline
function flushed(v: v128): v128 {
  return v128.andnot(v, f32x4.lt(f32x4.abs(v), v128.load32_splat(smallestNormal)));
}

/** Words: weight, gradient, rate, count, weight decay. */
export function sgd(args: usize, thread: i32, threads: i32): void {
  if (hasFailed()) return;
  const weight = address(args, 0);
  const gradient = address(args, 1);
  const rate = loadOne(address(args, 2));
  const count = word(args, 3);
  const decay = f32x4.splat(real(args, 4));
  const end = shareEnd(count, unit, thread, threads);
  for (let i = shareStart(count, unit, thread, threads); i < end; ) {
    const single = i + 4 > end;
    const w = get(single, at(weight, i));
    const slope = f32x4.add(get(single, at(gradient, i)), f32x4.mul(decay, w));
    put(single, at(weight, i), f32x4.sub(w, f32x4.mul(rate, slope)));
    i += single ? 1 : 4;
  }
}

/** Words: weight, momentum, gradient, rate, count, weight decay, μ, 1 for Nesterov. */
export function sgdMomentum(args: usize, thread: i32, threads: i32): void {
  if (hasFailed()) return;
  const weight = address(args, 0);
  const momentum = address(args, 1);
  const gradient = address(args, 2);
  const rate = loadOne(address(args, 3));
  const count = word(args, 4);
  const decay = f32x4.splat(real(args, 5));
  const mu = f32x4.splat(real(args, 6));
  const nesterov = word(args, 7) != 0;
  const end = shareEnd(count, unit, thread, threads);
  for (let i = shareStart(count, unit, thread, threads); i < end; ) {
    const single = i + 4 > end;
    const w = get(single, at(weight, i));
    const slope = f32x4.add(get(single, at(gradient, i)), f32x4.mul(decay, w));
    const moving = flushed(f32x4.add(f32x4.mul(mu, get(single, at(momentum, i))), slope));
    const change = nesterov ? f32x4.add(slope, f32x4.mul(mu, moving)) : moving;
    put(single, at(momentum, i), moving);
    put(single, at(weight, i), f32x4.sub(w, f32x4.mul(rate, change)));
    i += single ? 1 : 4;
  }
}

/**
 * Words: weight, m, v, gradient, rate, step, count, unused, β₁, β₂, ε, λ as f64 (two words each). With c = 1 − βᵗ the
 * change is η/c₁ · m / (√v / √c₂ + ε), its constants rounded to f32 once.
 */
export function adamw(args: usize, thread: i32, threads: i32): void {
  const weight = address(args, 0);
  const first = address(args, 1);
  const second = address(args, 2);
  const gradient = address(args, 3);
  const eta = <f64>load<f32>(address(args, 4));
  const step = load<i32>(address(args, 5));
  const count = word(args, 6);
  const beta1 = load<f64>(args, 32);
  const beta2 = load<f64>(args, 40);
  if (step < 1) {
    if (thread == 0) reportError(stepError, step);
    return;
  }
  if (hasFailed()) return;
  const keep1 = f32x4.splat(<f32>beta1);
  const take1 = f32x4.splat(<f32>(<f64>1 - beta1));
  const keep2 = f32x4.splat(<f32>beta2);
  const take2 = f32x4.splat(<f32>(<f64>1 - beta2));
  const rate = f32x4.splat(<f32>(eta / (<f64>1 - NativeMath.pow(beta1, <f64>step))));
  const root = f32x4.splat(<f32>(<f64>1 / Math.sqrt(<f64>1 - NativeMath.pow(beta2, <f64>step))));
  const epsilon = f32x4.splat(<f32>load<f64>(args, 48));
  const decay = f32x4.splat(<f32>(eta * load<f64>(args, 56)));
  const end = shareEnd(count, unit, thread, threads);
  for (let i = shareStart(count, unit, thread, threads); i < end; ) {
    const single = i + 4 > end;
    const g = get(single, at(gradient, i));
    const w = get(single, at(weight, i));
    const m = flushed(f32x4.add(f32x4.mul(keep1, get(single, at(first, i))), f32x4.mul(take1, g)));
    const v = flushed(f32x4.add(f32x4.mul(keep2, get(single, at(second, i))), f32x4.mul(take2, f32x4.mul(g, g))));
    const size = f32x4.add(f32x4.mul(f32x4.sqrt(v), root), epsilon);
    const change = f32x4.add(f32x4.mul(decay, w), f32x4.div(f32x4.mul(rate, m), size));
    put(single, at(first, i), m);
    put(single, at(second, i), v);
    put(single, at(weight, i), f32x4.sub(w, change));
    i += single ? 1 : 4;
  }
}

/** Words: weight, step (address of one i32), count, seed, stream. Adds 16 random bits below those that stay. */
export function roundToBf16(args: usize, thread: i32, threads: i32): void {
  if (hasFailed()) return;
  const weight = address(args, 0);
  const step = load<i32>(address(args, 1));
  const count = word(args, 2);
  const seed = word(args, 3);
  const stream = word(args, 4);
  const end = shareEnd(count, unit, thread, threads);
  for (let i = shareStart(count, unit, thread, threads); i < end; i++) {
    const bits = load<u32>(at(weight, i));
    if ((bits & 0x7f800000) == 0x7f800000) continue;
    store<u32>(at(weight, i), (bits + (bitsAt(seed, stream, step, <u64>i) >> 16)) & 0xffff0000);
  }
}

/** Words: x, count. Nothing is updated from here on when a number is not finite. */
export function holdUpdates(args: usize, thread: i32): void {
  if (thread != 0) return;
  const count = word(args, 1);
  for (let i = 0; i < count; i++) {
    const x = load<f32>(at(address(args, 0), i));
    if (x - x != 0) reportError(updatesHeld, 0);
  }
}
