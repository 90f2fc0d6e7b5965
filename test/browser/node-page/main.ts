// A page that reaches a module of Node, through a part of subbyte that only runs there.
export { openFile } from '../../../src/io/source-file.ts';
