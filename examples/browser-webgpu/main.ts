// A language model in the browser, on WebGPU: weights by range requests, in the format of the file, text as it is drawn.
// Run: npx vite examples/browser-webgpu

import { createWebgpuBackend } from '../../src/backends/webgpu/backend.ts';
import { generate } from '../../src/evaluate/generate.ts';
import { openSafetensorsUrl } from '../../src/io/safetensors-url.ts';
import { loadTokenizer } from '../../src/io/tokenizer.ts';
import { loadDecoder } from '../../src/models/loaded.ts';
import { openWeights } from '../../src/models/weights.ts';

const form = document.querySelector('form')!;
const button = document.querySelector('button')!;
const status = document.querySelector('#status')!;
const text = document.querySelector('#text')!;

async function open() {
  const backend = await createWebgpuBackend();
  const checkpoint = await openSafetensorsUrl('qwen3-6m/'); // the folder models/qwen3-6m, beside the page
  const tokenizer = await loadTokenizer(checkpoint);
  const weights = await openWeights(checkpoint);
  const model = await loadDecoder(weights, backend, {
    onProgress: (done, total) => {
      status.textContent = `Loading ${done} of ${total} tensors`;
    },
  });
  status.textContent = `${backend.description}, ${(model.byteLength / 1e6).toFixed(1)} MB of weights`;
  return { model, tokenizer };
}

/** Errors are sentences for people. */
function show(error: unknown) {
  status.textContent = error instanceof Error ? error.message : String(error);
}

const opened = open();
opened.then(() => {
  button.disabled = false;
}, show);

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  button.disabled = true;
  try {
    const { model, tokenizer } = await opened;
    const fields = new FormData(form);
    const ids = [...tokenizer.encode(String(fields.get('prompt')))];
    text.textContent = tokenizer.decode(ids);
    const onToken = (id: number) => {
      ids.push(id);
      text.textContent = tokenizer.decode(ids);
    };
    const options = { maxTokens: Number(fields.get('tokens')), temperature: 0, onToken };
    const { secondsPerToken } = await generate(model, [...ids], options);
    status.textContent = `${(1 / secondsPerToken).toFixed(1)} tokens a second`;
  } catch (error) {
    show(error);
  }
  button.disabled = false;
});
