// What a GPU's tensor cores may do in a training: products and attention that no recipe rounds.
//
// Where layers are trained in 16 bits or fewer, what is left of a model may round its operands to 11 bits; a training in
// f32 may not.

import type { TensorCores } from '../../backends/webgpu/device.ts';
import type { RecipeName } from './registry.ts';

export const tensorCoresOf = (recipe: RecipeName): TensorCores => (recipe === 'f32' ? 'exact' : 'f16');
