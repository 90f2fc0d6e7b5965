// Writes ONNX models of one node, byte by byte: all that the comparison with ONNX Runtime needs of the format.
//
// An ONNX file is a protobuf message (onnx/onnx.proto3 of the ONNX project): fields are (number << 3 | wire type) and
// a varint or a length with bytes. Only the fields used here are written; no external data, so below 2 GB.

export interface OnnxTensor {
  name: string;
  /** ONNX element types: float 1, uint8 2, float16 10. */
  type: 1 | 2 | 10;
  shape: readonly number[];
  data: Uint8Array;
}

export interface OnnxNode {
  op: string;
  /** Empty: the standard operators. */
  domain: string;
  attributes: Readonly<Record<string, number>>;
}

type Part = Uint8Array;

const text = new TextEncoder();

function varint(value: number): Part {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 128) {
    bytes.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  bytes.push(rest);
  return Uint8Array.from(bytes);
}

function concat(parts: readonly Part[]): Part {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

const integer = (field: number, value: number): Part => concat([varint(field * 8), varint(value)]);

function bytes(field: number, value: Part | string): Part {
  const data = typeof value === 'string' ? text.encode(value) : value;
  return concat([varint(field * 8 + 2), varint(data.length), data]);
}

const message = (field: number, parts: readonly Part[]): Part => bytes(field, concat(parts));

/** ValueInfoProto of a tensor with a fixed shape. */
const valueInfo = (field: number, name: string, type: OnnxTensor['type'], shape: readonly number[]): Part =>
  message(field, [
    bytes(1, name),
    message(2, [
      message(1, [
        integer(1, type),
        message(
          2,
          shape.map((d) => message(1, [integer(1, d)])),
        ),
      ]),
    ]),
  ]);

const initializer = (t: OnnxTensor): Part =>
  message(5, [...t.shape.map((d) => integer(1, d)), integer(2, t.type), bytes(8, t.name), bytes(9, t.data)]);

/** What may differ from one node in f32. */
export interface ModelOptions {
  /** Element type of x and y. */
  readonly type?: OnnxTensor['type'];
  /** The same node so many times, with results y0, y1, … instead of y. */
  readonly copies?: number;
}

/**
 * A model y [M, N] = node(x [M, K], …constants).
 *
 * @example oneNodeModel({ op: 'MatMul', domain: '', attributes: {} }, [1, 8], [1, 4], [weight])
 */
export function oneNodeModel(
  node: OnnxNode,
  inputShape: readonly number[],
  outputShape: readonly number[],
  constants: readonly OnnxTensor[],
  { type = 1, copies }: ModelOptions = {},
): Uint8Array {
  const results = copies === undefined ? ['y'] : Array.from({ length: copies }, (_, i) => `y${i}`);
  const graph = [
    ...results.map((y) =>
      message(1, [
        ...['x', ...constants.map((c) => c.name)].map((name) => bytes(1, name)),
        bytes(2, y),
        bytes(3, `node of ${y}`),
        bytes(4, node.op),
        ...Object.entries(node.attributes).map(([name, value]) =>
          message(5, [bytes(1, name), integer(3, value), integer(20, 2)]),
        ),
        bytes(7, node.domain),
      ]),
    ),
    bytes(2, 'benchmark'),
    ...constants.map(initializer),
    valueInfo(11, 'x', type, inputShape),
    ...results.map((y) => valueInfo(12, y, type, outputShape)),
  ];
  return concat([
    integer(1, 10),
    message(7, graph),
    message(8, [bytes(1, ''), integer(2, 21)]),
    message(8, [bytes(1, 'com.microsoft'), integer(2, 1)]),
  ]);
}
