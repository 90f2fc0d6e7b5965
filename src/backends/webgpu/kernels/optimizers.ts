// Optimizer steps in place: sgd, sgdMomentum, adamw.
//
// Thread map: one thread for four neighbouring weights. Neighbouring nodes of one op over the same numbers (learning
// rate, step, factor) become one dispatch where their values lie in the same buffers: a workgroup of 256 threads then
// updates up to 4096 weights of one value, which a table gives it. Every value is padded to 256 bytes, so the last four
// may reach past its end. No workgroup memory, no features. After a data error anywhere in the run, or where the run
// holds its updates, nothing is written. Factors such as 1 − β are rounded once, from float64.

import type { AdamWAttributes, MomentumAttributes, SgdAttributes } from '../../../graph/ops/optimizers.ts';
import { elementCount } from '../../../tensor/shape.ts';
import { stepError } from '../../data-error-codes.ts';
import { forEachGroup, forEachItem } from '../entry.ts';
import {
  type Command,
  type DenseOperand,
  dense,
  type EncodeContext,
  type KernelTable,
  type Names,
  type OpKernel,
  read,
  type Word,
  write,
} from '../kernel.ts';
import { chunksOf, floatBits, sharedRanges } from '../many.ts';
import { mathSource } from '../wgsl/math.ts';

/** An update of states by a gradient: inputs are the states, the gradient, then numbers; outputs the states. */
interface Update {
  readonly states: readonly string[];
  readonly numbers: readonly string[];
  readonly words: Readonly<Record<string, Word>>;
  readonly weightDecay: number;
  readonly prelude?: string;
  /** Statements before the first weight. */
  readonly begin?: (n: Names) => string;
  /** Statements over `decay`, the gradient `g` and the states by their names, which are set to their next values. */
  readonly next: (n: Names) => string;
}

const vectors = ({ shape }: DenseOperand) => Math.ceil(elementCount(shape) / 4);

/** The operands of a node by what they are. */
function operandsOf({ inputs, outputs }: EncodeContext, { states, numbers }: Update) {
  const named = (names: readonly string[], first: number) =>
    names.map((name, i) => [name, dense(inputs, first + i)] as const);
  return {
    states: states.map((name, i) => [name, dense(outputs, i)] as const),
    gradient: dense(inputs, states.length),
    numbers: named(numbers, states.length + 1),
  };
}

/** Statements that update four weights at the places `at` of the states and the gradient. */
function body(n: Names, { states, numbers, next }: Update, at: (name: string) => string): string {
  const factor = numbers.includes('factor') ? ` * ${n.factor}[0]` : '';
  return `let g = ${n.gradient}[${at('gradient')}]${factor};
  ${states.map((name) => `var ${name} = ${n[`${name}State`]}[${at(name)}];`).join('\n  ')}
  ${next(n)}
  ${states.map((name) => `${n[`${name}State`]}[${at(name)}] = ${name};`).join('\n  ')}`;
}

const begin = (n: Names, update: Update) => `${update.begin?.(n) ?? ''}
  if (failed()) { return; }`;

const numberBindings = ({ numbers }: ReturnType<typeof operandsOf>) =>
  Object.fromEntries(numbers.map(([name, operand]) => [name, read(operand)]));

/** One dispatch for one node. */
function alone(context: EncodeContext, update: Update): Command {
  const operands = operandsOf(context, update);
  const { states, gradient } = operands;
  const work = forEachItem(
    vectors(gradient),
    (n) => `${begin(n, update)}
  let decay = words.decay;
  ${body(n, update, () => 'i')}`,
    update.prelude,
  );
  return {
    bindings: {
      ...Object.fromEntries(states.map(([name, operand]) => [`${name}State`, write(operand, 'vec4<f32>')])),
      gradient: read(gradient, 'vec4<f32>'),
      ...numberBindings(operands),
    },
    words: { ...update.words, decay: { f32: update.weightDecay } },
    reports: true,
    ...work,
  };
}

/** One dispatch for nodes whose operands lie in the same buffers. */
function together(contexts: readonly EncodeContext[], updates: readonly Update[]): Command {
  const [update] = updates;
  const all = contexts.map((context) => operandsOf(context, update));
  const names = [...update.states, 'gradient'];
  const operand = (i: number, name: string) =>
    name === 'gradient' ? all[i].gradient : all[i].states[update.states.indexOf(name)][1];
  const ranges = sharedRanges(names.map((name) => all.map((_, i) => operand(i, name).range)));
  // an entry for each workgroup: places of the states and the gradient in vectors, how many, the decay
  const entries = all.flatMap((_, i) => {
    const first = names.map((name, k) => (operand(i, name).range.offset - ranges[k].offset) / 16);
    return chunksOf(vectors(all[i].gradient)).map(({ start, count }) => [
      ...first.map((place) => place + start),
      ...[count, floatBits(updates[i].weightDecay)],
    ]);
  });
  const width = names.length + 2;
  const work = forEachGroup(
    entries.length,
    256,
    (n) => `${begin(n, update)}
  let count = ${n.entries}[item * ${width}u + ${names.length}u];
  let decay = bitcast<f32>(${n.entries}[item * ${width}u + ${names.length + 1}u]);
  ${names.map((name, k) => `let ${name}At = ${n.entries}[item * ${width}u + ${k}u];`).join('\n  ')}
  for (var i = thread; i < count; i += 256u) {
    ${body(n, update, (name) => `${name}At + i`)}
  }`,
    update.prelude,
  );
  const bound = names.map((name, k) => ({
    range: ranges[k],
    access: name === 'gradient' ? ('read' as const) : ('write' as const),
    type: 'vec4<f32>' as const,
  }));
  return {
    label: `${contexts.length} values`,
    bindings: {
      ...Object.fromEntries(update.states.map((name, k) => [`${name}State`, bound[k]])),
      gradient: bound[names.length - 1],
      ...numberBindings(all[0]),
    },
    tables: { entries: Uint32Array.from(entries.flat()) },
    words: update.words,
    reports: true,
    ...work,
  };
}

/** Splits nodes by the buffers of their operands; what can bind them all at once becomes one dispatch. */
function encodeUpdates(contexts: readonly EncodeContext[], updateOf: (context: EncodeContext) => Update): Command[] {
  const groups: { buffers: GPUBuffer[]; members: EncodeContext[] }[] = [];
  for (const context of contexts) {
    const { states, gradient } = operandsOf(context, updateOf(context));
    const buffers = [...states.map(([, { range }]) => range.buffer), gradient.range.buffer];
    const group = groups.find((g) => g.buffers.every((buffer, i) => buffer === buffers[i]));
    if (group) group.members.push(context);
    else groups.push({ buffers, members: [context] });
  }
  return groups.flatMap(({ buffers, members }) => {
    const updates = members.map(updateOf);
    // besides these buffers: the numbers, the table and the error record
    const bindings = new Set(buffers).size + updates[0].numbers.length + 2;
    if (members.length > 1 && bindings <= members[0].gpu.storageBuffers) return [together(members, updates)];
    return members.map((context, i) => alone(context, updates[i]));
  });
}

const updateKernel = (updateOf: (context: EncodeContext) => Update): OpKernel => ({
  encode: (context) => [alone(context, updateOf(context))],
  /** The same numbers, and constants that differ in the weight decay alone. */
  joins(first, next) {
    const numbers = (node: typeof first) => node.inputs.slice(node.outputs.length + 1);
    const constants = ({ attributes }: typeof first) => JSON.stringify({ ...attributes, weightDecay: 0 });
    const [a, b] = [numbers(first), numbers(next)];
    return a.length === b.length && a.every((value, i) => value === b[i]) && constants(first) === constants(next);
  },
  encodeTogether: (contexts) => encodeUpdates(contexts, updateOf),
});

const sgd = updateKernel(({ node }) => ({
  states: ['weight'],
  numbers: ['rate'],
  words: {},
  weightDecay: (node.attributes as unknown as SgdAttributes).weightDecay,
  next: (n) => `weight = weight - ${n.rate}[0] * (g + decay * weight);`,
}));

const sgdMomentum = updateKernel(({ node }) => {
  const { weightDecay, momentum, nesterov } = node.attributes as unknown as MomentumAttributes;
  return {
    states: ['weight', 'momentum'],
    numbers: ['rate'],
    words: { factor: { f32: momentum } },
    weightDecay,
    next: (n) => `let slope = g + decay * weight;
  momentum = words.factor * momentum + slope;
  weight = weight - ${n.rate}[0] * ${nesterov ? '(slope + words.factor * momentum)' : 'momentum'};`,
  };
});

// 1 − βᵗ = −(e^u − 1) with u = t ln β: by its series near 0, where the difference would lose digits.
const correctionSource = `${mathSource}
fn correction(step: f32, logBeta: f32) -> f32 {
  let u = step * logBeta;
  var series = 1.0;
  for (var j = 9.0; j > 1.0; j -= 1.0) { series = 1.0 + series * u / j; }
  return select(1.0 - expOf(u), -u * series, u > -0.5);
}
`;

// β = 0 has no logarithm; e^−1000 is 0 as well.
const logBeta = (beta: number) => ({ f32: Math.max(-1000, Math.log(beta)) });

const adamw = updateKernel(({ node }) => {
  const { beta1, beta2, epsilon, weightDecay } = node.attributes as unknown as AdamWAttributes;
  return {
    states: ['weight', 'first', 'second'],
    numbers: ['rate', 'step', ...(node.inputs.length > 6 ? ['factor'] : [])],
    words: {
      beta1: { f32: beta1 },
      rest1: { f32: 1 - beta1 },
      beta2: { f32: beta2 },
      rest2: { f32: 1 - beta2 },
      logBeta1: logBeta(beta1),
      logBeta2: logBeta(beta2),
      epsilon: { f32: epsilon },
    },
    weightDecay,
    prelude: correctionSource,
    begin: (n) => `let t = ${n.step}[0];
  if (t < 1) { report(${stepError}u, t); }
  let correction1 = correction(f32(t), words.logBeta1);
  let correction2 = correction(f32(t), words.logBeta2);`,
    next: (n) => `first = words.beta1 * first + words.rest1 * g;
  second = words.beta2 * second + words.rest2 * g * g;
  let change = first / correction1 / (sqrt(second / correction2) + words.epsilon);
  weight = weight - ${n.rate}[0] * decay * weight - ${n.rate}[0] * change;`,
  };
});

export const optimizerKernels: KernelTable = { sgd, sgdMomentum, adamw };
