// Gradients by central differences on the reference backend in float64.
//
//   ∂L/∂x_i ≈ (L(x + h e_i) − L(x − h e_i)) / 2h,  L = Σ dy · y,  h = 2⁻¹⁷
//
// The formula is off by h²/6 · L‴ (about 1e-11 of a third derivative of size 1) and by rounding, about 1e-16 · |L| / h
// (1e-11 of |L|); a bound of 1e-8 of the largest gradient leaves a factor of a hundred for sharper expressions.

import type { Differentiable } from '../../src/backends/cases/gradients.ts';
import { gaussian } from '../../src/backends/op-case.ts';
import { createReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { gradients } from '../../src/graph/differentiate.ts';
import { trace } from '../../src/graph/trace.ts';
import { f32 } from '../../src/graph/value-type.ts';

export const stepSize = 2 ** -17;

/** For each input: the largest difference between both gradients, and the largest gradient. */
export async function compareWithDifferences({ build, data }: Differentiable) {
  const names: string[] = [];
  const graph = trace((g) => {
    const { y, wrt } = build(g);
    g.output('y', y);
    const seed = g.input('dy', f32(y.type.shape));
    for (const [i, gradient] of gradients(g, y, wrt, { seed }).entries()) {
      names.push(wrt[i].name);
      g.output(`d${wrt[i].name}`, gradient);
    }
  });
  const backend = createReferenceBackend({ precision: 'f64' });
  const executable = await backend.compile(graph, { params: new Map() });
  const dy = gaussian(77, graph.inputs.get('dy')!.type.shape);
  executable.write('dy', dy);
  for (const [name, values] of Object.entries(data)) executable.write(name, values);
  const loss = async () => {
    executable.run();
    const { data: y } = await executable.read('y');
    return dy.reduce((total, slope, i) => total + slope * y[i], 0);
  };
  await loss();
  const found = await Promise.all(names.map(async (name) => (await executable.read(`d${name}`)).data));
  const results: { name: string; error: number; largest: number }[] = [];
  for (const [n, name] of names.entries()) {
    const values = Float64Array.from(data[name]);
    const numeric = new Float64Array(values.length);
    const at = async (i: number, value: number) => {
      const moved = values.slice();
      moved[i] = value;
      executable.write(name, moved);
      return loss();
    };
    for (const [i, x] of values.entries())
      numeric[i] = ((await at(i, x + stepSize)) - (await at(i, x - stepSize))) / (2 * stepSize);
    executable.write(name, values);
    const error = numeric.reduce((worst, value, i) => Math.max(worst, Math.abs(value - found[n][i])), 0);
    results.push({ name, error, largest: numeric.reduce((most, value) => Math.max(most, Math.abs(value)), 0) });
  }
  return results;
}
