// Compute pipelines of one device, made once for each WGSL text.

import { deviceError } from '../../errors.ts';
import type { Assembled } from './assemble.ts';
import { computeStage } from './constants.ts';

export class PipelineCache {
  readonly #device: GPUDevice;
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  get size(): number {
    return this.#pipelines.size;
  }

  layout(assembled: Assembled): GPUBindGroupLayout {
    const types: GPUBufferBindingType[] = assembled.storage.map(({ writable }) =>
      writable ? 'storage' : 'read-only-storage',
    );
    types.push('uniform');
    if (assembled.reports) types.push('storage');
    const key = types.join();
    let layout = this.#layouts.get(key);
    if (!layout) {
      const entries = types.map((type, binding) => ({ binding, visibility: computeStage, buffer: { type } }));
      this.#layouts.set(key, (layout = this.#device.createBindGroupLayout({ entries })));
    }
    return layout;
  }

  /** The pipeline of a text; throws a device error that names the op when the driver refuses it. */
  async pipeline(op: string, assembled: Assembled): Promise<GPUComputePipeline> {
    let made = this.#pipelines.get(assembled.text);
    if (!made) this.#pipelines.set(assembled.text, (made = this.#compile(op, assembled)));
    return made;
  }

  async #compile(op: string, assembled: Assembled): Promise<GPUComputePipeline> {
    const device = this.#device;
    // An invalid module is reported by the pipeline; the scope keeps it from being reported twice.
    device.pushErrorScope('validation');
    const module = device.createShaderModule({ code: assembled.text, label: op });
    const layout = device.createPipelineLayout({ bindGroupLayouts: [this.layout(assembled)] });
    const answer = device.popErrorScope();
    const messages = module.getCompilationInfo();
    try {
      return await device.createComputePipelineAsync({ label: op, layout, compute: { module, entryPoint: 'main' } });
    } catch (cause) {
      const line = (await messages).messages.find(({ type }) => type === 'error');
      const reason = line ? `line ${line.lineNum}: ${line.message}` : (cause as Error).message.split('\n')[0];
      throw deviceError(
        {
          code: 'webgpu-pipeline',
          op,
          problem: `the device refuses the kernel (${reason})`,
          fix: 'update the graphics driver, or choose the wasm backend',
        },
        { cause },
      );
    } finally {
      await answer;
    }
  }
}
