// `--device`: where commands compute, and the line that says which was chosen and why.

import { Option } from 'commander';
import type { Backend } from '../backends/backend.ts';
import type { TensorCores } from '../backends/webgpu/device.ts';
import { SubbyteError, userError } from '../errors.ts';
import type { Session } from './session.ts';

const expected = 'auto, wasm, reference, webgpu, or webgpu:N for adapter N of `subbyte doctor`';

/** `webgpu:1` → { name: 'webgpu', index: 1 }. Throws a user error for anything that is no device. */
export function parseDevice(text: string): { name: 'auto' | 'wasm' | 'reference' | 'webgpu'; index?: number } {
  const found = /^(auto|wasm|reference|webgpu)(?::(\d{1,3}))?$/.exec(text.trim());
  const name = found?.[1] as 'auto' | 'wasm' | 'reference' | 'webgpu' | undefined;
  const index = found?.[2] === undefined ? undefined : Number(found[2]);
  if (name && (index === undefined || name === 'webgpu')) return { name, index };
  throw userError({
    code: 'unknown-device',
    op: 'options',
    problem: 'there is no such device',
    got: JSON.stringify(text),
    expected,
  });
}

/** For options: the text as it is. Throws a user error for anything that is no device. */
export function checkDevice(text: string): string {
  parseDevice(text);
  return text;
}

export const deviceOption = () =>
  new Option('--device <name>', 'where to compute: auto, wasm, reference, webgpu or webgpu:N')
    .default('auto')
    .argParser(checkDevice);

/** What a command lets a GPU do. */
export interface GpuChoices {
  readonly tensorCores?: TensorCores;
}

/** The backend that `--device` asks for; a line says which was chosen, and why when it was `auto`. */
export async function openBackend(session: Session, device: string, options?: GpuChoices): Promise<Backend> {
  const { backend, reason } = await chooseDevice(session, device, options);
  session.note(`  device       ${backend.description}${reason === undefined ? '' : ` (auto: ${reason})`}`);
  return backend;
}

/** Opens the backend that `--device` asks for; the reason is set for `auto`. */
export async function chooseDevice(
  session: Session,
  device: string,
  options: GpuChoices = {},
): Promise<{ backend: Backend; reason?: string }> {
  const { name, index } = parseDevice(device);
  if (name === 'webgpu') return { backend: await openWebgpu(index, options) };
  if (name === 'reference') {
    const { createReferenceBackend } = await import('../backends/reference/reference-backend.ts');
    return { backend: createReferenceBackend() };
  }
  const none = name === 'auto' ? await openAnyGpu(options) : undefined;
  if (none && typeof none !== 'string') return { backend: none, reason: 'a graphics adapter was found and checked' };
  const { createWasmBackend } = await import('../backends/wasm/backend.ts');
  return { backend: await createWasmBackend({ threads: session.options.threads }), reason: none };
}

// Our kernels keep inside their operands by themselves, which tests show with the device's own checks on; without these
// checks products on tensor cores take two thirds of the time.
const gpuOptions = (choices: GpuChoices) => ({ robustness: false, ...choices });

async function openWebgpu(index: number | undefined, choices: GpuChoices): Promise<Backend> {
  const { createWebgpuBackend } = await import('../backends/webgpu/backend.ts');
  if (index === undefined) return createWebgpuBackend(gpuOptions(choices));
  const { listAdapters } = await import('../backends/webgpu/adapters.ts');
  const adapters = await listAdapters();
  if (index < adapters.length) return createWebgpuBackend({ ...gpuOptions(choices), adapter: adapters[index].name });
  throw userError({
    code: 'no-such-adapter',
    op: 'options',
    problem: `there is no graphics adapter ${index}`,
    got: `webgpu:${index}`,
    expected: adapters.length > 0 ? `webgpu:0 … webgpu:${adapters.length - 1}` : 'a machine with a graphics driver',
    fix: 'list them with `subbyte doctor`',
  });
}

/** A device that nobody asked for by name shows first that it computes right. */
const checkSeconds = 0.5;

/** A backend on a real GPU, or why there is none. */
async function openAnyGpu(choices: GpuChoices): Promise<Backend | string> {
  const { whyNoGpu } = await import('../backends/webgpu/likely.ts');
  const none = whyNoGpu();
  if (none !== undefined) return none;
  try {
    const { createWebgpuBackend } = await import('../backends/webgpu/backend.ts');
    const { isSoftware } = await import('../backends/webgpu/adapters.ts');
    const { selfTest } = await import('../backends/self-test.ts');
    const backend = await createWebgpuBackend(gpuOptions(choices));
    if (isSoftware(backend.gpu.info)) {
      backend.dispose();
      return 'the graphics adapter is a program, slower than WebAssembly';
    }
    const { failures } = await selfTest(backend, checkSeconds);
    if (failures.length === 0) return backend;
    backend.dispose();
    return `the graphics adapter computes something wrong, see subbyte doctor: ${failures[0]}`;
  } catch (error) {
    if (error instanceof SubbyteError && error.kind === 'device') return error.details.problem;
    throw error;
  }
}
