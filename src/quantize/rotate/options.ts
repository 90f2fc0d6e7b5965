// What a rotation of a model consists of.

import { userError } from '../../errors.ts';
import type { DecoderConfig } from '../../models/config.ts';
import type { RotationRule } from '../../models/runtime-scheme.ts';
import { hadamardBlock } from '../../tensor/hadamard.ts';

export interface RotationOptions {
  /** R1: the residual stream. Norm gains move into the layers behind them, tied embeddings are untied. */
  residual: 'hadamard' | 'none';
  /** R2: each head between v_proj and o_proj, merged into both. */
  value: boolean;
  /** R3: each head of q and k after RoPE, online. Only quantized keys gain by it. */
  queryKey: boolean;
  /** R4: the input of down_proj, online; each expert's too. */
  down: 'online' | 'none';
  /** The input of o_proj, online: across heads with `value` (QuaRot), over the whole width without. */
  out: 'online' | 'none';
  /** A block-diagonal Hadamard matrix of this size on the input of every linear layer (MR-GPTQ), online. */
  block?: number;
  /** Random signs in the offline rotations R1 and R2. */
  randomSigns: boolean;
  /** Random signs in the online rotations too; default false, which is all that other runtimes know. */
  onlineSigns?: boolean;
  /** Key of all random signs, below 2^32. */
  seed: number;
}

/** Nothing is rotated. */
export const noRotation: RotationOptions = {
  residual: 'none',
  value: false,
  queryKey: false,
  down: 'none',
  out: 'none',
  randomSigns: false,
  seed: 0,
};

/** All of it merged into the weights: every runtime and container can run the result (SpinQuant's R1 and R2). */
export const offlineRotations: RotationOptions = {
  ...noRotation,
  residual: 'hadamard',
  value: true,
  randomSigns: true,
};

/** QuaRot, arXiv:2404.00456: for quantized activations and KV cache. */
export const quarotRotations: RotationOptions = {
  ...offlineRotations,
  queryKey: true,
  down: 'online',
  out: 'online',
};

/** Throws a user error for options that exclude each other or do not fit the model. */
export function checkRotationOptions(config: DecoderConfig, options: RotationOptions): void {
  const refuse = (problem: string, fix: string, got?: number) => {
    throw userError({ code: 'rotation', op: 'rotate', problem, got, fix });
  };
  if (options.seed !== options.seed >>> 0)
    refuse('the seed is no whole number below 2^32', 'choose another', options.seed);
  if (config.runtime.online.inputs.length > 0)
    refuse('the model has online rotations already', 'rotate the original model, with all options at once');
  const { block } = options;
  if (block === undefined) return;
  const others = [options.residual, options.down, options.out].some((o) => o !== 'none') || options.value;
  if (others) refuse('block rotates the input of every layer', 'leave out residual, value, down and out');
  if (block < 2 || hadamardBlock(block) !== block)
    refuse('no Hadamard matrix of the size of a block', 'choose a power of two such as 128', block);
  const widths = [config.hiddenSize, config.heads * config.headDim, ...mlpWidths(config).map(({ width }) => width)];
  const odd = widths.find((width) => width % block !== 0);
  if (odd !== undefined) refuse(`block ${block} does not divide the width of a layer`, 'choose a divisor', odd);
}

/** The widths of the MLPs' hidden layers and the names of the layers behind them. */
function mlpWidths({ experts, mlpSize }: DecoderConfig): { match: string; width: number }[] {
  const list: { match: string; width: number }[] = [];
  if (!experts?.sparse.every(Boolean)) list.push({ match: '\\.mlp\\.down_proj$', width: mlpSize });
  if (experts?.sparse.some(Boolean)) {
    list.push({ match: '\\.experts\\.down$', width: experts.size });
    if (experts.sharedSize > 0) list.push({ match: '\\.shared_expert\\.down_proj$', width: experts.sharedSize });
  }
  return list;
}

/** The rotations that the model will do online, as rules for config.json. */
export function onlineRules(config: DecoderConfig, options: RotationOptions): RotationRule[] {
  const { heads, headDim } = config;
  const seed = options.onlineSigns ? { seed: options.seed } : {};
  if (options.block !== undefined)
    return [{ match: '(_proj|\\.experts\\.(gate|up|down))$', size: options.block, ...seed }];
  const rules: RotationRule[] = [];
  const add = (match: string, width: number, stride: number, where: string) => {
    const size = hadamardBlock(width);
    if (size === 1)
      throw userError({
        code: 'rotation',
        op: 'rotate',
        problem: `no Hadamard matrix for ${where}`,
        got: width,
        expected: 'an even number',
        fix: 'leave this rotation out',
      });
    rules.push({ match, size, ...(stride > 1 && { stride }), ...seed });
  };
  if (options.out === 'online') {
    if (options.value) add('\\.o_proj$', heads, headDim, 'the number of heads');
    else add('\\.o_proj$', heads * headDim, 1, 'the input of o_proj');
  }
  if (options.down === 'online')
    for (const { match, width } of mlpWidths(config)) add(match, width, 1, `the input of ${match.slice(2, -1)}`);
  return rules;
}
