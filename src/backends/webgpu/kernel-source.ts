// A kernel by itself: a text whose entry point is `main`, with its storage bindings numbered from 0.

export interface KernelSource {
  readonly code: string;
  readonly workgroups: readonly [x: number, y: number, z: number];
}
