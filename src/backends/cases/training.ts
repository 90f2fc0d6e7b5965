// What training adds to a graph: rounding with its gradient rules, masks of targets, optimizer steps over several runs.

import type { Format } from '../../formats/format.ts';
import { parseFormat } from '../../formats/registry.ts';
import { gradients } from '../../graph/differentiate.ts';
import { withGradient } from '../../graph/gradient-rules.ts';
import type { Value } from '../../graph/graph.ts';
import { lsqPlus, seq } from '../../graph/learned-grids.ts';
import { affine } from '../../graph/ops/affine.ts';
import { fakeQuantize } from '../../graph/ops/fake-quantize.ts';
import { holdUpdates } from '../../graph/ops/hold-updates.ts';
import { adamw, sgd, sgdMomentum } from '../../graph/ops/optimizers.ts';
import { dequantize, quantize } from '../../graph/ops/quantize.ts';
import { roundToBf16 } from '../../graph/ops/round-state.ts';
import { sumSquares } from '../../graph/ops/sum-squares.ts';
import { targetMask } from '../../graph/ops/target-mask.ts';
import { clipMasked, dge } from '../../graph/rounding-rules.ts';
import type { GraphBuilder } from '../../graph/trace.ts';
import { f32, i32 } from '../../graph/value-type.ts';
import type { Shape } from '../../tensor/shape.ts';
import { tensorF32 } from '../../tensor/tensor.ts';
import { gaussian, integers, type OpCase } from '../op-case.ts';

/** y as a function of x and further inputs, with the gradients of all. Extra inputs are positive. */
function rounding(
  name: string,
  tolerance: OpCase['tolerance'],
  shapes: readonly Shape[],
  body: (x: Value, rest: Value[]) => Value,
): OpCase {
  const names = shapes.map((_, i) => 'xab'[i]);
  const data = shapes.map((shape, i) => gaussian(i + 1, shape).map((v) => (i > 0 ? Math.abs(v) + 0.2 : 2 * v)));
  return {
    name,
    tolerance,
    build(g) {
      const [x, ...rest] = shapes.map((shape, i) => g.input(names[i], f32(shape)));
      const y = body(x, rest);
      g.output('y', y);
      const found = gradients(g, y, [x, ...rest], { seed: g.input('dy', f32(y.type.shape)) });
      for (const [i, gradient] of found.entries()) g.output(`d${names[i]}`, gradient);
    },
    runs: [{ ...Object.fromEntries(data.map((values, i) => [names[i], values])), dy: gaussian(9, shapes[0]) }],
  };
}

const sumSquaresShapes: Shape[] = [[], [1], [7], [33, 1025], [3, 5, 8], [16, 4096]];

const grid = { low: -4, high: 3 };
const clipped = { ...parseFormat('int4-g32'), clip: 0.5 } as Format;

export const roundingCases: OpCase[] = [
  rounding('fakeQuantize, one step', 'exact', [[3, 7], [1]], (x, [s]) => fakeQuantize(x, s, grid)),
  rounding('fakeQuantize, a number', 'exact', [[1], []], (x, [s]) => fakeQuantize(x, s, grid)),
  rounding('fakeQuantize, a step for each column', 1e-6, [[5, 11], [11]], (x, [s]) => fakeQuantize(x, s, grid)),
  rounding(
    'fakeQuantize, a step for each row of each batch',
    1e-6,
    [
      [2, 3, 9],
      [3, 1],
    ],
    (x, [s]) => fakeQuantize(x, s, grid),
  ),
  rounding('fakeQuantize, between whole steps', 'exact', [[5, 6], [1]], (x, [s]) =>
    fakeQuantize(x, s, { low: -1.98, high: 1.98, shift: 0.5, edge: 1.25 }),
  ),
  rounding('learned step and offset', 1e-5, [[5, 7], [1], [1]], (x, [s, b]) => lsqPlus(x, s, b, { low: 0, high: 15 })),
  rounding(
    'stretched levels',
    1e-5,
    [
      [5, 7],
      [5, 1],
    ],
    (x, [alpha]) => seq(x, alpha, 2),
  ),
  rounding(
    'ternary levels',
    1e-5,
    [
      [5, 7],
      [5, 1],
    ],
    (x, [alpha]) => seq(x, alpha, 'ternary'),
  ),
  ...['fp4-e2m1-channel', 'mxfp4', 'nvfp4', 'int4-g32', 'fp8-e4m3-tile1x128'].map((name) =>
    rounding(`dge of ${name}`, 1e-5, [[3, 96]], (x) => dequantize(withGradient(quantize(x, parseFormat(name)), dge()))),
  ),
  rounding('dge of fp4-e2m1-tile2x8, k 3', 1e-5, [[5, 13]], (x) =>
    dequantize(withGradient(quantize(x, parseFormat('fp4-e2m1-tile2x8')), dge({ k: 3, cap: 2 }))),
  ),
  rounding('clip mask', 1e-6, [[2, 64]], (x) => dequantize(withGradient(quantize(x, clipped), clipMasked()))),
  {
    name: 'targetMask',
    tolerance: 'exact',
    build: (g) => void g.output('y', targetMask(g.input('t', i32([3, 7])))),
    runs: [{ t: integers(1, [3, 7], -2, 2) }],
  },
];

/** The squares of many values, their root, and an update that is held in the second of three runs. */
const guardCases: OpCase[] = [
  {
    name: 'sumSquares',
    tolerance: 1e-6,
    build(g) {
      const values = sumSquaresShapes.map((shape, i) => g.input(`x${i}`, f32(shape)));
      g.output('y', sumSquares(values));
    },
    runs: [Object.fromEntries(sumSquaresShapes.map((shape, i) => [`x${i}`, gaussian(i + 1, shape, i + 1)]))],
  },
  ...[Number.NaN, Number.POSITIVE_INFINITY].map(
    (broken): OpCase => ({
      name: `holdUpdates at ${broken}`,
      tolerance: 1e-6,
      accumulates: true,
      build(g) {
        const minusOne = g.constant(tensorF32([1], Float32Array.of(-1)));
        const add = (name: string, x: Value) => sgd(g.state(name, f32([5])), x, minusOne, { weightDecay: 0 });
        const x = g.input('x', f32([5]));
        g.output('before', add('a', x));
        g.output('guard', holdUpdates(g.input('guard', f32([2]))));
        g.output('after', add('b', x));
      },
      runs: [1, broken, 3].map((v) => ({ x: gaussian(2, [5]), guard: Float32Array.of(0, v) })),
    }),
  ),
];

/** Three steps from weights of 0, with a new gradient each time; all states are read. */
function optimizer(
  name: string,
  count: number,
  states: readonly string[],
  step: (states: readonly Value[], gradient: Value, rate: Value, g: GraphBuilder) => Value,
): OpCase {
  return {
    name: `${name}, ${count}`,
    tolerance: 1e-6,
    accumulates: true,
    build(g) {
      const values = states.map((label) => g.state(label, f32([count])));
      const next = step(values, g.input('gradient', f32([count])), g.input('rate', f32([1])), g);
      const { outputs } = g.graph.nodes.find((node) => node.outputs.includes(next))!;
      for (const [i, label] of states.entries()) g.output(label, outputs[i]);
    },
    runs: [1, 2, 3].map((t) => ({
      gradient: gaussian(t, [count], 0.1),
      rate: Float32Array.of(0.1 / t),
      ...(states.length === 3 && { t: Int32Array.of(t) }),
    })),
  };
}

/** adamw and sgd over weights of several sizes, one after another, as a training step has them. */
function manyWeights(count: number): OpCase {
  const sizes = [count, 3, 2 * count + 1];
  return {
    name: `adamw and sgd of several weights, ${count}`,
    tolerance: 1e-6,
    accumulates: true,
    build(g) {
      const [learningRate, step] = [g.input('rate', f32([1])), g.input('t', i32([1]))];
      const factor = affine(learningRate, { scale: 5 });
      const gradients = sizes.map((size, i) => affine(g.input(`g${i}`, f32([size])), { scale: 2 }));
      const outputs = new Map<string, Value>();
      for (const [i, size] of sizes.entries()) {
        const [w, m, v] = ['w', 'm', 'v'].map((name) => g.state(`${name}${i}`, f32([size])));
        const constants = { weightDecay: 0.1 * i, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };
        const next = adamw(w, { m, v }, gradients[i], { learningRate, step, factor }, constants);
        outputs.set(`w${i}`, next);
      }
      for (const [i, size] of sizes.entries())
        outputs.set(`s${i}`, sgd(g.state(`s${i}`, f32([size])), gradients[i], learningRate, { weightDecay: 0 }));
      for (const [name, value] of outputs) g.output(name, value);
    },
    runs: [1, 2, 3].map((t) => ({
      ...Object.fromEntries(sizes.map((size, i) => [`g${i}`, gaussian(10 * t + i, [size], 0.1)])),
      rate: Float32Array.of(0.1 / t),
      t: Int32Array.of(t),
    })),
  };
}

export const optimizerCases: OpCase[] = [
  ...guardCases,
  ...[1, 7, 1033].flatMap((count): OpCase[] => [
    {
      name: `roundToBf16, ${count}`,
      tolerance: 'exact',
      accumulates: true,
      build(g) {
        const minusOne = g.constant(tensorF32([1], Float32Array.of(-1)));
        const added = sgd(g.state('w', f32([count])), g.input('x', f32([count])), minusOne, { weightDecay: 0 });
        g.output('y', roundToBf16(added, g.input('t', i32([1])), { seed: 7, stream: 3 }));
      },
      runs: [1, 2].map((t) => ({ x: gaussian(t, [count]), t: Int32Array.of(t) })),
    },
    optimizer('sgd', count, ['w'], ([w], gradient, rate) => sgd(w, gradient, rate, { weightDecay: 0.01 })),
    ...[false, true].map((nesterov) =>
      optimizer(`sgdMomentum, nesterov ${nesterov}`, count, ['w', 'm'], ([w, m], gradient, rate) =>
        sgdMomentum(w, m, gradient, rate, { weightDecay: 0.01, momentum: 0.9, nesterov }),
      ),
    ),
    optimizer('adamw', count, ['w', 'm', 'v'], ([w, m, v], gradient, learningRate, g) => {
      const constants = { weightDecay: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };
      return adamw(w, { m, v }, gradient, { learningRate, step: g.input('t', i32([1])) }, constants);
    }),
    optimizer('adamw with a factor', count, ['w', 'm', 'v'], ([w, m, v], gradient, learningRate, g) => {
      const constants = { weightDecay: 0.1, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };
      const factor = affine(learningRate, { scale: -3, offset: 0.75 });
      return adamw(w, { m, v }, gradient, { learningRate, step: g.input('t', i32([1])), factor }, constants);
    }),
    manyWeights(count),
  ]),
];
