// What GPTQ can be asked for.

import { userError } from '../../errors.ts';

export interface GptqOptions {
  /** λ in units of the mean diagonal of the Hessian. */
  damping: number;
  /**
   * Order in which columns are rounded. activation: by falling mean square of their inputs. group: the same within every
   * group, groups by their largest (GAR, arXiv 2505.14638).
   */
  order: 'natural' | 'activation' | 'group';
  /**
   * Scales fitted to the original weights before any rounding: a column keeps the scale of its group. Otherwise a group
   * is fitted to the weights as they are when its first column comes up; scales of whole rows, tiles and tensors are
   * always fitted first. Required with the activation order, whose columns leave their groups.
   */
  staticGroups: boolean;
  /** Columns whose errors are passed on together. Changes nothing but the last bits without asymmetry. */
  blockSize: number;
  /** α of GPTAQ's correction towards the outputs on unquantized inputs (arXiv 2504.02692); 0: plain GPTQ. */
  asymmetry: number;
}

export const defaultGptqOptions: Readonly<GptqOptions> = {
  damping: 0.01,
  order: 'natural',
  staticGroups: true,
  blockSize: 128,
  asymmetry: 0,
};

/** Throws a user error where options contradict each other or lie outside their range. */
export function checkGptqOptions(options: GptqOptions): void {
  const refuse = (problem: string, got: string | number, expected: string, fix?: string) => {
    throw userError({ code: 'bad-gptq-options', op: 'gptq', problem, got, expected, fix });
  };
  const { damping, order, staticGroups, blockSize, asymmetry } = options;
  if (!(damping >= 0 && damping < 1)) refuse('the damping is out of range', damping, '0 ≤ damping < 1');
  if (!(Number.isSafeInteger(blockSize) && blockSize > 0)) refuse('bad block size', blockSize, 'a whole number > 0');
  if (!(asymmetry >= 0 && asymmetry <= 1)) refuse('the asymmetry is out of range', asymmetry, '0 ≤ asymmetry ≤ 1');
  if (order === 'activation' && !staticGroups)
    refuse(
      'the activation order takes columns out of their groups',
      'groups fitted on the way',
      'static groups',
      'set staticGroups, or take the order "group"',
    );
}
