// Matrix products and losses large enough for tensor cores, at sizes that no tile cuts. `rounds` marks products whose operands f16
// does not hold exactly: they run there only where a backend is told that it may round.

import { quantize as encode } from '../../formats/quantize.ts';
import { parseFormat } from '../../formats/registry.ts';
import { applyOp } from '../../graph/apply.ts';
import type { Value } from '../../graph/graph.ts';
import { crossEntropy, crossEntropyBackwardOp } from '../../graph/ops/cross-entropy.ts';
import { transpose } from '../../graph/ops/layout.ts';
import { type MatmulAttributes, matmul } from '../../graph/ops/matmul.ts';
import { dequantize, quantize } from '../../graph/ops/quantize.ts';
import { transposePacked } from '../../graph/ops/transpose-packed.ts';
import type { GraphBuilder } from '../../graph/trace.ts';
import { f32, i32, packed } from '../../graph/value-type.ts';
import { elementCount, type Shape } from '../../tensor/shape.ts';
import { type AnyTensor, qtensor } from '../../tensor/tensor.ts';
import { gaussian, integers, type OpCase } from '../op-case.ts';
import { packedTensor } from './common.ts';

export interface LargeProductCase extends OpCase {
  readonly rounds: boolean;
}

const linear = { transposeB: true } as const;

interface Options extends Partial<MatmulAttributes> {
  formats?: readonly [a: string | undefined, b: string | undefined];
  rounds?: boolean;
  /** Changes the numbers of a before they are packed. */
  change?: (a: Float32Array) => void;
}

function product(name: string, aShape: Shape, bShape: Shape, options: Options = {}): LargeProductCase {
  const { formats = [], change, ...attributes } = options;
  const rounds = options.rounds ?? formats.length < 2;
  const data = [gaussian(1, aShape), gaussian(2, bShape)];
  change?.(data[0]);
  const params: Record<string, AnyTensor> = {};
  const runs: Record<string, Float32Array> = {};
  const operands = [aShape, bShape].map((shape, i) => {
    const key = 'ab'[i];
    const format = formats[i];
    if (!format) {
      runs[key] = data[i];
      return (g: GraphBuilder): Value => g.input(key, f32(shape));
    }
    const cols = shape[shape.length - 1];
    params[key] = qtensor(shape, encode(data[i], elementCount(shape) / cols, cols, parseFormat(format)));
    return (g: GraphBuilder): Value => g.param(key, packed(shape, parseFormat(format)));
  });
  return {
    name: `large product ${name}`,
    rounds,
    // f32 sums of a few hundred terms; operands of 11 bits where they are rounded
    tolerance: rounds ? 1e-3 : 3e-6,
    params,
    runs: [runs],
    build: (g) => void g.output('y', matmul(operands[0](g), operands[1](g), attributes)),
  };
}

const packedPair = (a: string | undefined, b: string | undefined, more: Options = {}) =>
  product(`${a ?? 'f32'} × ${b ?? 'f32'}`, [131, 160], [200, 160], { ...linear, formats: [a, b], ...more });

/** Magnitudes over 40 binades, row by row: what is far below the largest may vanish beside it. */
function spread(a: Float32Array): void {
  for (let i = 0; i < a.length; i++) a[i] *= 2 ** -((Math.floor(i / 160) % 5) * 4);
}

/** The loss of a last projection and its gradients; some rows have no target. */
function loss(N: number, V: number, C: number): LargeProductCase {
  const targets = integers(3, [N], 0, V);
  for (let i = 0; i < N; i += 17) targets[i] = -1;
  return {
    name: `large loss of ${N} × ${V}`,
    rounds: true,
    tolerance: 1e-3,
    runs: [{ hidden: gaussian(1, [N, C]), weight: gaussian(2, [V, C], 0.3), targets, dnll: gaussian(4, [N], 1e-5) }],
    build(g) {
      const [hidden, weight] = [g.input('hidden', f32([N, C])), g.input('weight', f32([V, C]))];
      const ids = g.input('targets', i32([N]));
      const nll = crossEntropy(hidden, weight, ids);
      const inputs = [hidden, weight, ids, nll, g.input('dnll', f32([N]))];
      const [dhidden, dweight] = applyOp(crossEntropyBackwardOp, inputs, { weightGradient: true });
      g.output('nll', nll);
      g.output('dhidden', dhidden);
      g.output('dweight', dweight);
    },
  };
}

/** The three products of a linear layer in bf16 as training makes them: operands of the backward pass are transposed. */
function layer(T: number, n: number, k: number): LargeProductCase {
  const bf16 = parseFormat('bf16');
  const round = (v: Value) => quantize(v, bf16);
  const swap = (v: Value) => transpose(v, [1, 0]);
  return {
    name: `large layer in bf16, ${T} × ${n} × ${k}`,
    rounds: false,
    tolerance: 3e-6,
    runs: [{ x: gaussian(1, [T, k]), w: gaussian(2, [n, k]), e: gaussian(3, [T, n], 1e-6) }],
    build(g) {
      const [x, w, e] = [g.input('x', f32([T, k])), g.input('w', f32([n, k])), g.input('e', f32([T, n]))];
      const [a, b] = [round(x), round(w)];
      g.output('y', matmul(a, b, linear));
      g.output('gx', matmul(round(e), round(swap(dequantize(b))), linear));
      g.output('gw', matmul(round(swap(e)), transposePacked(a), linear));
    },
  };
}

/** The loss with a packed head, whose gradient nobody asks for. */
function packedLoss(N: number, V: number, C: number, format: string): LargeProductCase {
  return {
    name: `large loss of ${N} × ${V}, head in ${format}`,
    rounds: true,
    tolerance: 1e-3,
    params: { weight: packedTensor(2, [V, C], format) },
    runs: [{ hidden: gaussian(1, [N, C]), targets: integers(3, [N], 0, V) }],
    build(g) {
      const weight = g.param('weight', packed([V, C], parseFormat(format)));
      g.output('nll', crossEntropy(g.input('hidden', f32([N, C])), weight, g.input('targets', i32([N]))));
    },
  };
}

/** Every code of an FP8 format, one a row, times a column of ones. */
function everyCode(format: string): LargeProductCase {
  const K = 32;
  const [a, b] = [parseFormat(format), parseFormat('bf16')];
  const codes = new Uint8Array(256 * K);
  for (let code = 0; code < 256; code++) codes[code * K] = code;
  const ones = new Float32Array(256 * K);
  for (let n = 0; n < 256; n++) ones[n * K] = 1;
  const whole = encode(new Float32Array(256 * K).fill(1), 256, K, a);
  return {
    name: `large product of every code of ${format}`,
    rounds: false,
    tolerance: 0,
    params: { a: qtensor([256, K], { ...whole, codes }), b: qtensor([256, K], encode(ones, 256, K, b)) },
    runs: [{}],
    build: (g) =>
      void g.output('y', matmul(g.param('a', packed([256, K], a)), g.param('b', packed([256, K], b)), linear)),
  };
}

/** A packed operand beside so many rows that backends may decode it once, before the product. */
const manyRows = (name: string, aShape: Shape, bShape: Shape, a: string | undefined, b: string | undefined) =>
  product(`${a ?? 'f32'} × ${b ?? 'f32'} ${name}`, aShape, bShape, { ...linear, formats: [a, b], rounds: !(a && b) });

/** Sums of integers with scales by row, column or tensor are exact. */
const integerPair = (a: string, b: string, aShape: Shape, bShape: Shape): LargeProductCase => ({
  ...product(`${a} × ${b}, ${aShape.join('×')}`, aShape, bShape, { ...linear, formats: [a, b], rounds: false }),
  tolerance: 3e-7,
});

/** i8 matrices give the bits of dot products. */
export const integerCases = [
  integerPair('int8-channel', 'int8-channel', [131, 160], [200, 160]),
  integerPair('int8-channel', 'int4-channel', [131, 160], [200, 160]),
  integerPair('int8-tensor', 'int4-channel-asym', [131, 168], [200, 168]),
  integerPair('int8-channel', 'int8-channel', [70, 250], [130, 250]),
  integerPair('int8-channel', 'int8-channel', [3, 83, 136], [3, 72, 136]),
  // tiles enough for the widest
  integerPair('int8-channel', 'int8-channel', [128, 70, 48], [128, 72, 48]),
];

export const largeProductCases: LargeProductCase[] = [
  ...['f16', 'bf16', 'mxfp4', 'nvfp4', 'int8-channel'].map((format) => packedLoss(300, 264, 96, format)),
  layer(200, 136, 104),
  loss(300, 264, 72),
  loss(8300, 4096, 8),
  product('NN', [131, 136], [136, 200]),
  product('NT, N odd', [130, 136], [131, 136], linear),
  product('TN', [136, 136], [136, 200], { transposeA: true }),
  product('TT', [136, 136], [200, 136], { transposeA: true, transposeB: true }),
  product('batched', [3, 83, 136], [3, 136, 72]),
  product('one b for a batch', [3, 83, 136], [72, 136], linear),
  product('a batch stored with K first', [3, 136, 72], [3, 136, 72], { transposeA: true }),
  product('in pieces of K', [72, 4104], [64, 4104], linear),
  product('in pieces of K, TN', [8200, 128], [8200, 136], { transposeA: true }),
  product('of tiny numbers', [131, 136], [136, 200], { change: (a) => a.set(a.map((x) => x * 1e-30)) }),
  product('of huge numbers', [131, 136], [136, 200], { change: (a) => a.set(a.map((x) => x * 1e30)) }),
  packedPair('bf16', 'bf16'),
  packedPair('bf16', 'bf16', { change: (a) => a.fill(Number.NaN, 160, 170) }),
  packedPair('f16', 'bf16'),
  packedPair('mxfp4', 'mxfp4', { change: spread }),
  packedPair('mxfp4-fourthirds', 'mxfp4'),
  packedPair('nvfp4', 'nvfp4', { change: spread }),
  packedPair('mxfp8-e4m3', 'mxfp4'),
  packedPair('mxfp8-e5m2', 'mxfp8-e4m3'),
  packedPair(undefined, 'mxfp4', { rounds: true }),
  packedPair(undefined, 'nvfp4', { rounds: true }),
  packedPair(undefined, 'int4-g32', { rounds: true }),
  packedPair(undefined, 'int4-g32-asym', { rounds: true }),
  packedPair('fp8-e4m3-tensor', 'fp8-e4m3-tensor', { change: spread }),
  packedPair('fp8-e5m2-tensor', 'fp8-e4m3-tensor'),
  packedPair('fp8-e4m3-tensor', 'mxfp4'),
  packedPair('mxfp8-e5m2', 'mxfp8-e5m2', { change: spread }),
  packedPair('fp8-e4m3-channel', 'fp8-e4m3-tensor', { rounds: true }),
  packedPair('bf16', 'int4-g32', { rounds: true }),
  packedPair('mxfp4', 'int4-g32', { rounds: true }),
  packedPair('int4-g32', 'mxfp8-e4m3', { rounds: true }),
  packedPair(undefined, 'int8-channel', { rounds: true }),
  ...['mxfp4', 'nvfp4', 'int4-g32', 'mxfp8-e5m2', 'int8-channel', 'q4_k'].map((format) =>
    manyRows('with many rows', [2051, 256], [72, 256], undefined, format),
  ),
  manyRows('with many rows', [2051, 64], [72, 64], 'bf16', 'mxfp4'),
  manyRows('with many columns', [72, 64], [2052, 64], 'mxfp4', undefined),
  ...integerCases,
  ...['fp8-e4m3-tensor', 'fp8-e5m2-tensor', 'mxfp8-e4m3', 'mxfp8-e5m2'].map(everyCode),
  product('f32 × q4_k', [64, 512], [72, 512], { ...linear, formats: [undefined, 'q4_k'], rounds: true }),
];
