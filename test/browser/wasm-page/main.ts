// The page of wasm.test.ts.

import { differences, runOpCase } from '../../../src/backends/op-case.ts';
import { opCases } from '../../../src/backends/op-cases.ts';
import { createReferenceBackend } from '../../../src/backends/reference/reference-backend.ts';
import { createWasmBackend } from '../../../src/backends/wasm/backend.ts';

const wasmPage = {
  /** Runs every case: how many, and a line for each output that differs from the reference backend's. */
  async checkAll(threads: number | undefined) {
    const backend = await createWasmBackend({ threads });
    const reference = createReferenceBackend();
    const problems: string[] = [];
    for (const opCase of opCases) {
      const found = await runOpCase(backend, opCase);
      for (const line of differences(found, await runOpCase(reference, opCase), opCase.tolerance))
        problems.push(`${opCase.name}: ${line}`);
    }
    backend.dispose();
    return { description: backend.description, cases: opCases.length, problems };
  },
};

declare global {
  interface Window {
    wasmPage: typeof wasmPage;
  }
}
window.wasmPage = wasmPage;
