import { Chunk } from './chunk.ts';

/** Bytes by their position among all that came, kept until nobody needs them again. However small they come, they cost what they hold. */
export class HeldBytes {
  #pieces: { readonly from: number; readonly chunk: Chunk }[] = [];
  #end: number;

  constructor(at = 0) {
    this.#end = at;
  }

  /** Position of the first byte that is here. */
  get start(): number {
    return this.#pieces[0]?.from ?? this.#end;
  }

  /** Position behind the last that came. */
  get end(): number {
    return this.#end;
  }

  push(bytes: Uint8Array): void {
    if (!this.#pieces.at(-1)?.chunk.append(bytes))
      this.#pieces.push({ from: this.#end, chunk: new Chunk(bytes) });
    this.#end += bytes.byteLength;
  }

  /** Nothing before this position is needed any more. */
  forget(before: number): void {
    const kept = this.#pieces.findIndex(({ from, chunk }) => from + chunk.length > before);
    this.#pieces.splice(0, kept < 0 ? this.#pieces.length : kept);
  }

  /** What is here from a position on, in order. */
  *from(position: number): Generator<Uint8Array, void, undefined> {
    for (const { from, chunk } of this.#pieces) {
      const bytes = chunk.bytes.subarray(Math.max(0, position - from));
      if (bytes.byteLength > 0) yield bytes;
    }
  }

  clear(): void {
    this.#pieces = [];
  }
}
