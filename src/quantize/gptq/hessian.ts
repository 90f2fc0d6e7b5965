// Statistics of a layer's inputs, made ready for GPTQ: the factor of the damped inverse Hessian in processing order.
//
// Layers with the same input (q, k, v) share what is prepared here. Where the Hessian is not positive definite the
// damping grows by 0.01 as long as it stays below 1 (GPTQModel's schedule; ptq-core 3.2); after that the layer has to be
// rounded plainly, which is reported and never an error. Statistics that hold NaN or infinity are an error.

import type { Factor, Solver } from '../../backends/wasm/solver.ts';
import { modelError, userError } from '../../errors.ts';
import { checkGptqOptions, type GptqOptions } from './options.ts';
import { activationOrder, groupOrder } from './order.ts';

export interface LayerStatistics {
  /** Calibration tokens that reached the layer. */
  tokens: number;
  features: number;
  /** Σ x̃ᵀx̃ [features, features] over the inputs that the quantized model gives; the upper triangle is read. */
  gram: Float32Array;
  /** Σ (x − x̃)ᵀx̃ [features, features], x the inputs that the original model gives: for asymmetry. */
  cross?: Float32Array;
}

export interface HessianFactor {
  factor: Factor;
  /** order[i] is the column that is rounded as number i; undefined: natural. */
  order: Uint32Array | undefined;
  /** What was needed: at least what was asked for. */
  damping: number;
}

export interface PreparedHessian {
  readonly statistics: LayerStatistics;
  readonly options: GptqOptions;
  /** Features that never occurred. */
  readonly dead: readonly number[];
  /** The factor for a format whose groups have `span` columns, computed once; a sentence where there is none. */
  factorFor(span: number): HessianFactor | string;
}

const dampingStep = 0.01;

/**
 * Checks statistics and prepares them for `solveLayer`.
 *
 * @param name of the layer, or of one that stands for all that share the input, for messages
 * @throws model error when statistics hold NaN or infinity; user error on bad options
 * @example const prepared = prepareHessian({ tokens, features, gram }, defaultGptqOptions, solver, 'layers.0.q_proj');
 */
export function prepareHessian(
  statistics: LayerStatistics,
  options: GptqOptions,
  solver: Solver,
  name: string,
): PreparedHessian {
  checkGptqOptions(options);
  const { features, gram, cross, tokens } = statistics;
  if (gram.length !== features ** 2) throw new Error(`gptq: ${gram.length} moments for ${features} features`);
  checkFinite(gram, features, true, name);
  if (options.asymmetry > 0) {
    if (!cross) {
      throw userError({
        code: 'no-cross-statistics',
        op: 'gptq',
        problem: 'asymmetry needs the difference between the inputs of the original and of the quantized model',
        fix: 'calibrate with both streams, or set asymmetry to 0',
        tensor: name,
      });
    }
    checkFinite(cross, features, false, name);
  }
  const diagonal = Float32Array.from({ length: features }, (_, i) => gram[i * features + i]);
  const dead = [...diagonal.keys()].filter((i) => diagonal[i] === 0);
  const factors = new Map<number, HessianFactor | string>();

  const computeFactor = (span: number): HessianFactor | string => {
    if (tokens === 0 || dead.length === features) return `no calibration token reached ${name}: it is rounded plainly`;
    const { order: kind, asymmetry, damping } = options;
    const order =
      kind === 'natural' ? undefined : kind === 'activation' ? activationOrder(diagonal) : groupOrder(diagonal, span);
    const request = {
      gram,
      size: features,
      order,
      asymmetry: asymmetry > 0 && cross ? { cross, strength: asymmetry } : undefined,
    };
    for (let i = 0; ; i++) {
      // multiples of a hundredth as decimals, not as sums
      const raised = Number((damping + dampingStep * i).toFixed(10));
      if (i > 0 && raised >= 1) break;
      const factor = solver.factor({ ...request, damping: raised });
      if (!('pivot' in factor)) return { factor, order, damping: raised };
    }
    return `the Hessian of ${name} is not positive definite with any damping below 1: it is rounded plainly`;
  };

  return {
    statistics,
    options,
    dead,
    factorFor(span) {
      // only the group order depends on the groups
      const key = options.order === 'group' ? Math.min(span, features) : 0;
      let factor = factors.get(key);
      if (factor === undefined) {
        factor = computeFactor(span);
        factors.set(key, factor);
      }
      return factor;
    },
  };
}

function checkFinite(matrix: Float32Array, features: number, upper: boolean, name: string): void {
  for (let i = 0; i < features; i++) {
    for (let j = upper ? i : 0; j < features; j++) {
      const value = matrix[i * features + j];
      if (value - value === 0) continue;
      throw modelError({
        code: 'non-finite-statistics',
        op: 'gptq',
        problem: `the moment of input features ${i} and ${j} is not finite`,
        got: String(value),
        expected: 'finite numbers',
        fix: 'look for an overflow in the layers before, or leave this layer out',
        tensor: name,
      });
    }
  }
}
