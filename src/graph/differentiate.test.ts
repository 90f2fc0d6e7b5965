import { describe, expect, it } from 'vitest';
import type { Buffer } from '../backends/backend.ts';
import { gaussian } from '../backends/op-case.ts';
import { createReferenceBackend } from '../backends/reference/reference-backend.ts';
import { parseFormat } from '../formats/registry.ts';
import { tensorF32 } from '../tensor/tensor.ts';
import { gradients } from './differentiate.ts';
import { onIncoming, stopGradient, straightThrough, withGradient } from './gradient-rules.ts';
import type { GradientRule, Value } from './graph.ts';
import { affine } from './ops/affine.ts';
import { add, mul, sub } from './ops/arithmetic.ts';
import { cacheWrite } from './ops/cache-write.ts';
import { matmul } from './ops/matmul.ts';
import { rmsNorm } from './ops/norm.ts';
import { dequantize, quantize } from './ops/quantize.ts';
import { argmax, mean, sum } from './ops/reduce.ts';
import { topK } from './ops/top-k.ts';
import { exp, geluTanh, square, tanh } from './ops/unary.ts';
import { planMemory } from './plan.ts';
import { printGraph } from './print.ts';
import { type GraphBuilder, trace } from './trace.ts';
import { f32, i32, packed } from './value-type.ts';

const backend = createReferenceBackend();

/** Traces, runs on the inputs and reads every output. */
async function evaluate(build: (g: GraphBuilder) => void, inputs: Record<string, Float32Array>) {
  const graph = trace(build);
  const run = await backend.compile(graph, { params: new Map<string, Buffer>() });
  for (const [name, data] of Object.entries(inputs)) run.write(name, data);
  run.run();
  const outputs: Record<string, number[]> = {};
  for (const name of graph.outputs.keys()) outputs[name] = [...(await run.read(name)).data];
  return outputs;
}

describe('gradients', () => {
  it('appends nodes under the layer they belong to, and only those that are needed', () => {
    const graph = trace((g) => {
      const [x, w] = [g.input('x', f32([2, 3])), g.param('w', f32([4, 3]))];
      const y = g.scope('layers.0', () => matmul(x, w, { transposeB: true }));
      g.output('dw', gradients(g, sum(y), [w])[0]);
    });
    expect(printGraph(graph).split('\n')).toEqual(
      [
        'input    x: f32[2, 3]',
        'param    w: f32[4, 3]',
        'constant constant#0: f32[]',
        '%2 = matmul(x, w) {"transposeA":false,"transposeB":true} : f32[2, 4]   layers.0',
        '%3 = reduce(%2) {"kind":"sum","axes":[0,1],"keepDims":false} : f32[]',
        '%5 = reshape(constant#0) {"shape":[1,1]} : f32[1, 1]   gradient',
        '%6 = broadcastTo(%5) {"shape":[2, 4]} : f32[2, 4]   gradient',
        '%7 = matmul(%6, x) {"transposeA":true,"transposeB":false} : f32[4, 3]   gradient.layers.0',
        'output   dw = %7',
      ].map((line) => line.replace('[2, 4]}', '[2,4]}')),
    );
  });

  it('adds up all uses of a value, also of one that is wanted itself', async () => {
    const found = await evaluate(
      (g) => {
        const x = g.input('x', f32([2]));
        const y = square(x);
        const loss = sum(add(mul(y, x), add(y, affine(x, { scale: 5 })))); // x³ + x² + 5x
        for (const [i, d] of gradients(g, loss, [x, y, loss]).entries()) g.output(`d${i}`, d);
      },
      { x: Float32Array.of(2, -3) },
    );
    expect(found).toEqual({ d0: [3 * 4 + 2 * 2 + 5, 3 * 9 - 6 + 5], d1: [3, -2], d2: [1] });
  });

  it('adds in place', () => {
    const graph = trace((g) => {
      const x = g.input('x', f32([64]));
      const loss = sum(add(add(exp(x), tanh(x)), square(x)));
      g.output('dx', affine(gradients(g, loss, [x])[0], { scale: 2 }));
    });
    const { placements } = planMemory(graph);
    const sums = graph.nodes.filter((n) => n.op.name === 'add' && n.scope === 'gradient');
    expect(sums).toHaveLength(2);
    for (const { inputs, outputs } of sums) {
      const { root } = placements.get(outputs[0])!;
      expect(inputs.map((v) => placements.get(v)!.root)).toContain(root);
    }
  });

  it('needs no more memory when a value has more uses', () => {
    const arenaBytes = (uses: number) => {
      const graph = trace((g) => {
        const x = affine(g.input('x', f32([1024])), { scale: 2 });
        let total = exp(x);
        for (let i = 1; i < uses; i++) total = add(total, tanh(x));
        g.output('dx', affine(gradients(g, sum(total), [x])[0], { scale: 2 }));
      });
      return planMemory(graph).arenaBytes;
    };
    // x, the gradient of the sum, what has been added up, and what is being added.
    expect(arenaBytes(3)).toBe(4 * 4096);
    for (const uses of [4, 9, 30]) expect(arenaBytes(uses)).toBe(arenaBytes(3));
  });

  it('takes a seed for a loss of any shape', async () => {
    const found = await evaluate(
      (g) => {
        const [x, seed] = [g.input('x', f32([2])), g.input('seed', f32([2]))];
        g.output('dx', gradients(g, square(x), [x], { seed })[0]);
      },
      { x: Float32Array.of(3, 4), seed: Float32Array.of(1, -10) },
    );
    expect(found.dx).toEqual([6, -80]);
  });

  it('passes the values of topK and not its indices', async () => {
    const found = await evaluate(
      (g) => {
        const x = g.input('x', f32([1, 4]));
        g.output('dx', gradients(g, sum(square(topK(x, 2).values)), [x])[0]);
      },
      { x: Float32Array.of(1, 5, 2, 4) },
    );
    expect(found.dx).toEqual([0, 10, 0, 8]);
  });
});

describe('replaced rules', () => {
  const format = parseFormat('int4-g32');
  const x = gaussian(1, [2, 32]);
  const dy = gaussian(2, [2, 32]);

  it('straight through a quantizer, by op, by node and in detached form', async () => {
    const forms: ((v: Value) => Value)[] = [
      (v) => dequantize(quantize(v, format)),
      (v) => dequantize(withGradient(quantize(v, format), straightThrough)),
      (v) => add(v, stopGradient(sub(dequantize(quantize(v, format)), v))),
    ];
    for (const [i, form] of forms.entries()) {
      const found = await evaluate(
        (g) => {
          const [v, seed] = [g.input('x', f32([2, 32])), g.input('dy', f32([2, 32]))];
          const rules: Record<string, GradientRule> = i === 0 ? { quantize: straightThrough } : {};
          g.output('dx', gradients(g, form(v), [v], { seed, rules })[0]);
        },
        { x, dy },
      );
      expect(found.dx).toEqual([...dy]);
    }
  });

  it('quantizes the incoming gradient before each product', async () => {
    const w = g32(3, [32, 32]);
    const round = (v: Value) => dequantize(quantize(v, format));
    const found = await evaluate(
      (g) => {
        const [a, seed, b] = [g.input('x', f32([2, 32])), g.input('dy', f32([2, 32])), g.constant(w)];
        const y = matmul(a, b, { transposeB: true });
        g.output('dx', gradients(g, y, [a], { seed, rules: { matmul: onIncoming(round) } })[0]);
        g.output('expected', matmul(round(seed), b));
        g.output('plain', gradients(g, y, [a], { seed })[0]);
      },
      { x, dy },
    );
    expect(found.dx).toEqual(found.expected);
    expect(found.dx).not.toEqual(found.plain);
  });

  it('a rule of the caller that reads the forward value; the node wins over the op', async () => {
    const found = await evaluate(
      (g) => {
        const v = g.input('x', f32([2]));
        const y = withGradient(tanh(v), ({ outputs: [t] }, [d]) => [d && mul(d, t)]);
        const z = tanh(v);
        const rules = { unary: straightThrough };
        const [dv, dz] = gradients(g, sum(add(y, z)), [v, z], { rules });
        g.output('dv', dv);
        g.output('dz', dz);
      },
      { x: Float32Array.of(0.5, -1) },
    );
    expect(found.dz).toEqual([1, 1]);
    expect(found.dv[0]).toBeCloseTo(1 + Math.tanh(0.5), 6);
    expect(found.dv[1]).toBeCloseTo(1 + Math.tanh(-1), 6);
  });
});

describe('recomputed regions', () => {
  const [tokens, width, inner, layers] = [16, 8, 32, 6];
  const block = (g: GraphBuilder, h: Value, i: number) => {
    const [up, down] = [g.input(`up${i}`, f32([inner, width])), g.input(`down${i}`, f32([width, inner]))];
    const norm = rmsNorm(h, g.input(`n${i}`, f32([width])), { epsilon: 1e-5 });
    return add(h, matmul(geluTanh(matmul(norm, up, { transposeB: true })), down, { transposeB: true }));
  };
  const build = (marked: boolean) => (g: GraphBuilder) => {
    const x = g.input('x', f32([tokens, width]));
    let h = x;
    for (let i = 0; i < layers; i++) {
      const before = h;
      h = marked ? g.checkpoint(`layers.${i}`, () => block(g, before, i)) : block(g, before, i);
    }
    const wanted = [...g.graph.inputs.values()];
    for (const [i, d] of gradients(g, mean(square(h)), wanted).entries()) g.output(`d${wanted[i].name}`, d);
  };

  it('give the same gradients', async () => {
    const inputs = Object.fromEntries(
      [...trace(build(false)).inputs].map(([name, { type }], i) => [name, gaussian(i, type.shape, 0.4)]),
    );
    expect(await evaluate(build(true), inputs)).toEqual(await evaluate(build(false), inputs));
  });

  it('keep only what enters them: six blocks need less than half the arena', () => {
    const [kept, recomputed] = [false, true].map((marked) => planMemory(trace(build(marked))));
    // Kept: norm [T, C] and two of [T, I] for each layer. Recomputed: the same for one layer, and h of every layer.
    const [outer, wide] = [4 * tokens * width, 4 * tokens * inner];
    expect(kept.arenaBytes).toBeGreaterThanOrEqual(layers * (2 * wide + outer));
    expect(recomputed.arenaBytes).toBeLessThanOrEqual(layers * outer + 4 * wide + 4 * outer);
    expect(recomputed.peakBytes).toBeLessThan(kept.peakBytes);
  });

  it('belong to the outer one when nested, and cannot update a state', () => {
    trace((g) => {
      const x = g.input('x', f32([2]));
      g.checkpoint('a', () => square(g.checkpoint('b', () => exp(x))));
      expect(g.graph.regions).toEqual([{ first: 0, end: 2 }]);
      const write = () =>
        cacheWrite(g.state('c', f32([1, 2, 1, 1])), g.input('k', f32([1, 1, 1, 1])), g.input('at', i32([1])));
      expect(() => g.checkpoint('layers.1', write)).toThrow(
        'checkpoint: layers.1/cacheWrite#2 updates a state inside the recomputed region layers.1; update states outside',
      );
    });
  });
});

describe('what gradients refuses', () => {
  const message = (build: (g: GraphBuilder, x: Value) => unknown) => {
    let text = 'no error';
    trace((g) => {
      try {
        build(g, g.input('x', f32([2, 32])));
      } catch (error) {
        text = String(error);
      }
    });
    return text;
  };

  it('ops without a gradient, with what to do', () => {
    expect(message((g, x) => gradients(g, sum(dequantize(quantize(x, parseFormat('mxfp4')))), [x]))).toContain(
      'quantize: no gradient is defined through quantize#0; rounding has no useful derivative: pass a rule such as',
    );
    const text = message((g) => {
      const k = g.input('k', f32([1, 1, 1, 1]));
      const cache = cacheWrite(g.state('c', f32([1, 2, 1, 1])), k, g.input('at', i32([1])));
      gradients(g, sum(cache), [k]);
    });
    expect(text).toContain('cacheWrite: no gradient is defined through cacheWrite#0; differentiate a graph that sees');
  });

  it('a second derivative through a fused backward op', () => {
    const text = message((g, x) => {
      const [dx] = gradients(g, sum(tanh(x)), [x]);
      gradients(g, sum(dx), [x]);
    });
    expect(text).toContain('unaryBackward: no gradient is defined through gradient/unaryBackward#');
  });

  it('a loss that is not one number, and a seed of another shape', () => {
    expect(message((g, x) => gradients(g, x, [x]))).toContain(
      'gradients: the loss x is not one number, got f32[2, 32], expected one element; take the mean or the sum',
    );
    expect(message((g, x) => gradients(g, x, [x], { seed: g.input('s', f32([2])) }))).toContain(
      'gradients: seed has another shape than the loss, got f32[2], expected f32[2, 32]',
    );
  });

  it('values that the loss does not depend on, or only through indices or a stop', () => {
    const independent = /the loss does not depend on x through ops that have gradients/;
    expect(message((g, x) => gradients(g, sum(g.input('z', f32([2]))), [x]))).toMatch(independent);
    expect(message((g, x) => gradients(g, sum(exp(stopGradient(x))), [x]))).toMatch(independent);
    const table = tensorF32([32, 1], gaussian(1, [32, 1]));
    expect(
      message((g, x) => gradients(g, sum(mul(g.constant(table), g.input('z', f32([1])))), [x, argmax(x)])),
    ).toContain('argmax#2 is not dense f32, got i32[2]; ask for f32 values');
  });

  it('packed weights and values of another graph', () => {
    expect(message((g, x) => gradients(g, sum(x), [g.param('w', packed([2, 32], parseFormat('mxfp4')))]))).toContain(
      'gradients: w is not dense f32, got mxfp4[2, 32]; ask for f32 values; keep trained weights in f32',
    );
    const foreign: Value[] = [];
    trace((g) => void foreign.push(g.input('other', f32([2]))));
    expect(message((g, x) => gradients(g, sum(x), foreign))).toContain('other belongs to another graph');
  });

  it('a changed rule where there is none', () => {
    const build = (g: GraphBuilder, x: Value) => {
      const y = dequantize(quantize(x, parseFormat('mxfp4')));
      return gradients(g, sum(y), [x], { rules: { quantize: onIncoming((d) => d) } });
    };
    expect(message(build)).toContain(
      'quantize: onIncoming changes a rule that quantize#0 does not have; pass the rule',
    );
  });

  it('a rule that gives a wrong shape', () => {
    expect(message((g, x) => gradients(g, sum(x), [x], { rules: { reduce: straightThrough } }))).toContain(
      'reduce: the gradient rule of reduce#0 gives a wrong gradient for x, got f32[], expected f32[2, 32]',
    );
  });
});

const g32 = (seed: number, shape: readonly number[]) => tensorF32(shape, gaussian(seed, shape));
