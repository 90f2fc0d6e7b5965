// Messages for errors that only the data can cause, found by a kernel during a run.

import { type SubbyteError, userError } from '../../errors.ts';
import type { Node } from '../../graph/graph.ts';
import { cacheRangeError, embeddingIdError, expertIndexError, targetError } from './kernel-ids.ts';

/** What the reported number is, and the largest that is allowed. */
function describe(code: number, { inputs }: Node): [label: string, high: number] {
  const shape = (i: number) => inputs[i].type.shape;
  switch (code) {
    case embeddingIdError:
      return ['an id', shape(0)[0] - 1];
    case cacheRangeError:
      return ['start', inputs.length > 3 ? shape(1)[1] - shape(0)[1] : shape(0)[1] - shape(1)[1]];
    case targetError:
      return ['a target', (inputs[0].type.shape.length > 1 && shape(1).length > 1 ? targetLimit(inputs) : 0) - 1];
    case expertIndexError:
      return ['an expert index', shape(1)[0] - 1];
    default:
      throw new Error(`wasm: a kernel reported the unknown error ${code}`);
  }
}

function targetLimit([first, second]: Node['inputs']): number {
  const [shape, other] = [first.type.shape, second.type.shape];
  // compareLogits: two [N, V]; crossEntropy: hidden [N, C], weight [V, C].
  return shape[0] === other[0] && shape[1] === other[1] ? shape[1] : other[0];
}

/** The error of a run in which `node` met the number `value`. */
export function dataError(code: number, value: number, node: Node): SubbyteError {
  const [label, high] = describe(code, node);
  return userError({
    code: 'index-range',
    op: node.op.name,
    problem: `${label} is out of range in ${node.outputs[0].name}`,
    got: value,
    expected: `0 … ${high}`,
    fix: 'check the data that was written to the graph',
  });
}
