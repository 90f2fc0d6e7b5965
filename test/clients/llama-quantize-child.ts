// Runs llama.cpp's own quantizer (llama_model_quantize of libllama, through koffi) on GGUF files.
//
// A program of its own because failed asserts abort the process. stdin: a list of QuantizeRequests; the answer on the
// last line of stdout is what the quantizer said about each tensor, one text a request.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';

export interface QuantizeRequest {
  input: string;
  output: string;
  /** A number of llama_ftype, for example 15 for Q4_K_M. */
  fileType: number;
  /** The base type for every tensor, without the mixture. */
  pure?: boolean;
  /** Importance of the input features of tensors, by name. */
  importance?: Record<string, number[]>;
  /** Only say what would be done; no output file. */
  dryRun?: boolean;
}

let text = '';
for await (const chunk of process.stdin) text += chunk;
const requests = JSON.parse(text) as QuantizeRequest[];

const folder = fileURLToPath(new URL('../../node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/', import.meta.url));
const library = (stem: string) =>
  koffi.load(join(folder, readdirSync(folder).find((f) => f.startsWith(stem)) as string), { global: true });
library('libggml-base');
library('libggml.');
const llama = library('libllama.');

// Structs of llama.cpp v0.5.0. The list of importance data ends with a null name.
koffi.struct('llama_model_imatrix_data', { name: 'const char *', data: 'float *', size: 'size_t' });
koffi.struct('llama_model_quantize_params', {
  nthread: 'int32_t',
  ftype: 'int',
  output_tensor_type: 'int',
  token_embedding_type: 'int',
  allow_requantize: 'bool',
  quantize_output_tensor: 'bool',
  only_copy: 'bool',
  pure: 'bool',
  keep_split: 'bool',
  dry_run: 'bool',
  imatrix: 'llama_model_imatrix_data *',
  kv_overrides: 'void *',
  tt_overrides: 'void *',
  prune_layers: 'void *',
  max_buf_size: 'size_t',
});
koffi.proto('void log_callback(int level, const char *text, void *user)');
const setLog = llama.func('void llama_log_set(log_callback *callback, void *user)');
const defaults = llama.func('llama_model_quantize_params llama_model_quantize_default_params()');
const quantize = llama.func(
  'uint32_t llama_model_quantize(const char *input, const char *output, const llama_model_quantize_params *params)',
);

let said = '';
const callback = koffi.register((_level: number, line: string) => {
  said += line;
}, koffi.pointer('log_callback'));
setLog(callback, null);

const answers = requests.map((request) => {
  said = '';
  const params = {
    ...(defaults() as object),
    nthread: 1,
    ftype: request.fileType,
    pure: request.pure ?? false,
    dry_run: request.dryRun ?? false,
    imatrix: request.importance && [
      ...Object.entries(request.importance).map(([name, data]) => ({ name, data, size: data.length })),
      { name: null, data: null, size: 0 },
    ],
  };
  const result = quantize(request.input, request.output, params);
  if (result !== 0) throw new Error(`llama_model_quantize gave ${result}: ${said.slice(-1000)}`);
  return said;
});
process.stdout.write(`\n${JSON.stringify(answers)}\n`, () => process.exit(0));
