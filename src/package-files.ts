/** Where the package begins: sources stand in src/, compiled files one folder deeper, in dist/src/. */
const root = new URL(import.meta.url.endsWith('.ts') ? '../' : '../../', import.meta.url);

/** The address of a file that ships with the package, as `models/val.txt.xz`. */
export const packageFile = (name: string): URL => new URL(name, root);
