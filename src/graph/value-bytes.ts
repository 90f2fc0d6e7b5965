// Bytes of a value in its exact storage layout. A backend that pads or repacks passes its own figure to the memory plan.

import { formatBytes } from '../formats/registry.ts';
import { elementCount } from '../tensor/shape.ts';
import type { ValueType } from './graph.ts';

/**
 * Dense values take 4 bytes an element; packed ones their codes, scales and zero points, before any value is known.
 * Throws a SubbyteError when the last dimension does not suit the format.
 */
export function valueBytes(type: ValueType): number {
  if (type.dtype !== 'packed') return 4 * elementCount(type.shape);
  const cols = type.shape[type.shape.length - 1];
  return formatBytes(type.format, elementCount(type.shape) / cols, cols);
}
