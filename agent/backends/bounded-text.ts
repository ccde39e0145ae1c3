/** The text of an answer. Rejects with a RangeError for one of more than `maxBytes`. */
export async function readText(chunks: AsyncIterable<Uint8Array>, maxBytes: number): Promise<string> {
  const held: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.byteLength;
    if (size > maxBytes) throw new RangeError(`an answer of more than ${maxBytes} bytes`);
    held.push(chunk);
  }
  return Buffer.concat(held).toString('utf8');
}

/** The lines of an answer that goes on, without those that are blank. Rejects with a RangeError for a line of more than `maxBytes`. */
export async function* readLines(
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<string> {
  let held: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, from)) {
      const line = Buffer.concat([...held, chunk.subarray(from, end)]).toString('utf8');
      held = [];
      size = 0;
      from = end + 1;
      if (line.trim() !== '') yield line;
    }
    held.push(chunk.subarray(from));
    size += chunk.byteLength - from;
    if (size > maxBytes) throw new RangeError(`a line of more than ${maxBytes} bytes`);
  }
}
