type Bytes = Uint8Array<ArrayBuffer>;

/** A stored file on its way to its reader, read as fast as that takes it, until `watch` says that its reader may have no more. */
export function downloadOf(
  body: ReadableStream<Bytes>,
  watch: (denied: (failure: Error) => void) => () => void,
): ReadableStream<Bytes> {
  const source = body.getReader();
  let unwatch: () => void = () => {};
  return new ReadableStream(
    {
      start(controller) {
        unwatch = watch((failure) => {
          controller.error(failure);
          void source.cancel().catch(() => {});
        });
      },
      async pull(controller) {
        try {
          const { done, value } = await source.read();
          if (!done) return controller.enqueue(value);
          unwatch();
          controller.close();
        } catch (error) {
          unwatch();
          throw error;
        }
      },
      cancel(reason) {
        unwatch();
        return source.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}
