// Reads a GGUF file with ggml's own loader and prints what it saw as JSON; null when ggml refuses the file.
// In a process of its own, because ggml aborts the process on some inputs.

import { fileURLToPath } from 'node:url';
import koffi from 'koffi';

const library = 'node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so';
const ggml = koffi.load(fileURLToPath(new URL(`../../${library}`, import.meta.url)));
koffi.struct('gguf_init_params', { no_alloc: 'bool', ctx: 'void*' });
const init = ggml.func('void* gguf_init_from_file(const char* path, gguf_init_params params)');
const get = Object.fromEntries(
  [
    ['keys', 'int64_t gguf_get_n_kv(void*)'],
    ['key', 'const char* gguf_get_key(void*, int64_t)'],
    ['type', 'int gguf_get_kv_type(void*, int64_t)'],
    ['elementType', 'int gguf_get_arr_type(void*, int64_t)'],
    ['length', 'size_t gguf_get_arr_n(void*, int64_t)'],
    ['item', 'const char* gguf_get_arr_str(void*, int64_t, size_t)'],
    ['array', 'void* gguf_get_arr_data(void*, int64_t)'],
    ['alignment', 'size_t gguf_get_alignment(void*)'],
    ['dataOffset', 'size_t gguf_get_data_offset(void*)'],
    ['tensors', 'int64_t gguf_get_n_tensors(void*)'],
    ['name', 'const char* gguf_get_tensor_name(void*, int64_t)'],
    ['tensorType', 'int gguf_get_tensor_type(void*, int64_t)'],
    ['offset', 'size_t gguf_get_tensor_offset(void*, int64_t)'],
    ['size', 'size_t gguf_get_tensor_size(void*, int64_t)'],
    ['blockSize', 'int64_t ggml_blck_size(int)'],
    ['typeSize', 'size_t ggml_type_size(int)'],
  ].map(([name, signature]) => [name, ggml.func(signature)]),
);
const scalars = [
  ['uint8_t', 'u8'],
  ['int8_t', 'i8'],
  ['uint16_t', 'u16'],
  ['int16_t', 'i16'],
  ['uint32_t', 'u32'],
  ['int32_t', 'i32'],
  ['float', 'f32'],
  ['bool', 'bool'],
  ['const char*', 'str'],
  undefined,
  ['uint64_t', 'u64'],
  ['int64_t', 'i64'],
  ['double', 'f64'],
].map((s) => s && { c: s[0], read: ggml.func(`${s[0]} gguf_get_val_${s[1]}(void*, int64_t)`) });

function value(context, i) {
  const type = get.type(context, i);
  if (type !== 9) return String(scalars[type].read(context, i));
  const element = get.elementType(context, i);
  const n = Number(get.length(context, i));
  if (element === 8) return Array.from({ length: n }, (_, j) => get.item(context, i, j));
  if (n === 0) return [];
  return Array.from(koffi.decode(get.array(context, i), scalars[element].c, n), String);
}

function read(path) {
  const context = init(path, { no_alloc: true, ctx: null });
  if (!context) return null;
  const keys = Array.from({ length: Number(get.keys(context)) }, (_, i) => ({
    key: get.key(context, i),
    type: get.type(context, i),
    value: value(context, i),
  }));
  const tensors = Array.from({ length: Number(get.tensors(context)) }, (_, i) => ({
    name: get.name(context, i),
    type: get.tensorType(context, i),
    offset: Number(get.offset(context, i)),
    size: Number(get.size(context, i)),
  }));
  return { keys, tensors, alignment: Number(get.alignment(context)), dataOffset: Number(get.dataOffset(context)) };
}

const [mode, ...paths] = process.argv.slice(2);
if (mode === 'types') {
  const types = Array.from({ length: 43 }, (_, id) => [id, Number(get.blockSize(id)), Number(get.typeSize(id))]);
  console.log(JSON.stringify(types.filter(([, , bytes]) => bytes > 0)));
} else console.log(JSON.stringify(paths.map(read)));
