// Messages for errors that only the data can cause, found by a kernel during a run.

import { modelError, type SubbyteError, userError } from '../errors.ts';
import type { Node } from '../graph/graph.ts';
import {
  cacheRangeError,
  embeddingIdError,
  expertIndexError,
  nonFiniteError,
  stepError,
  targetError,
} from './data-error-codes.ts';

/** The op a node is a part of, where a backend has cut it in pieces called `op/part`. */
const opName = ({ op }: Node) => op.name.split('/')[0];

/** What the reported number is, and the largest that is allowed. */
function describe(code: number, node: Node): [label: string, high: number] {
  const { op, inputs, outputs } = node;
  // the length of an axis of which the node may see a piece
  const size = (input: number, axis: number) => Number(node.attributes.total ?? inputs[input].type.shape[axis]);
  switch (code) {
    case embeddingIdError:
      return ['an id', size(0, 0) - 1];
    case cacheRangeError:
      return ['start', lastStart(node)];
    case targetError:
      // crossEntropy(hidden, weight [V, C], …) or compareLogits(p [N, V], …), and their gradients
      return ['a target', (op.name.startsWith('crossEntropy') ? size(1, 0) : size(0, 1)) - 1];
    case expertIndexError:
      // expertMatmul(x, weight [E, M, K], …) and its gradient; topKBackward, whose result is [N, E]; embeddingBackward,
      // which sorts ids as experts are sorted and whose result is [V, C]; gramUpdate(gram [E, K, K], …)
      if (op.name === 'embeddingBackward') return ['an id', outputs[0].type.shape[0] - 1];
      if (op.name === 'gramUpdate') return ['an expert index', size(0, 0) - 1];
      return ['an expert index', (op.name === 'topKBackward' ? outputs[0].type.shape[1] : size(1, 0)) - 1];
    case stepError:
      return ['the step', 2 ** 31 - 1];
    default:
      throw new Error(`a kernel reported the unknown error ${code}`);
  }
}

/** The last position at which the tokens of a run fit. */
function lastStart({ op, inputs, attributes }: Node): number {
  const size = (input: number, axis: number) => inputs[input].type.shape[axis];
  switch (op.name) {
    case 'attention':
    case 'attentionBackward':
      return size(1, 1) - size(0, 1); // q, k, v, start
    case 'kvAttention':
      return size(2, 1) - size(0, 1); // q, keys, values, …
    case 'ringWrite':
      return 2 ** 31 - 1 - size(1, 1); // ring, x, start
    case 'packChannels':
      return Number(attributes.sinks) + size(0, 3) - Number(attributes.tokens); // cache, ring, start
    default:
      return size(0, 1) - size(1, 1); // cacheWrite: cache, x, start
  }
}

/** The error of a run in which `node` met the number `value`. */
export function dataError(code: number, value: number, node: Node): SubbyteError {
  if (code === nonFiniteError)
    return modelError({
      code: 'non-finite-value',
      op: opName(node),
      problem: `${node.inputs[0].name} holds a NaN or an infinity`,
      expected: 'finite numbers',
      fix: 'look for an overflow in the layers before it',
    });
  const [label, high] = describe(code, node);
  return userError({
    code: 'index-range',
    op: opName(node),
    problem: `${label} is out of range in ${node.outputs[0].name}`,
    got: value,
    expected: `${code === stepError ? 1 : 0} … ${high}`,
    fix: 'check the data that was written to the graph',
  });
}
