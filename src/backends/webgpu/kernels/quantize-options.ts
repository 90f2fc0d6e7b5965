// What the quantizers are handed besides the matrix and its format.

import type { QuantSpec } from '../../../formats/format.ts';
import type { Binding, DenseOperand } from '../kernel.ts';

/** Key and step of the random numbers; empty where nothing is drawn. */
export interface Draws {
  /** seed and stream. */
  readonly words: Readonly<Record<string, number>>;
  /** step, where it changes from run to run. */
  readonly bindings: Readonly<Record<string, Binding>>;
}

/** Whether elements, or the scales of MS-EDEN, are rounded stochastically. */
export const isRandom = ({ rounding, scale }: QuantSpec): boolean =>
  rounding === 'stochastic' || scale.rule === 'ms-eden';

/** The bits of what is not clipped: 1 where |x| < fl(bound · step). */
export interface Marks {
  readonly bits: DenseOperand;
  readonly bound: number;
}
