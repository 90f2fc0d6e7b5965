import type { OutputKind } from './output.ts';
export const safetensorsOutput = undefined as unknown as OutputKind;
