/** What ends a loop that waits for one thing after the other. */
export type Cutoff<Word> = {
  /** As `next` settles, or as the cutoff has, whichever comes first. One at a time. */
  race<Value>(next: Promise<Value>): Promise<Value | Word>;
};

/** `Promise.race` leaves a listener on the one that lasts with every turn: a body in single bytes would fill the memory. */
export function createCutoff<Word>(end: Promise<Word>): Cutoff<Word> {
  let isOver = false;
  let cut: () => void = () => {};
  const over = () => {
    isOver = true;
    cut();
  };
  end.then(over, over);
  return {
    race: (next) =>
      new Promise((resolve, reject) => {
        cut = () => resolve(end);
        if (isOver) cut();
        next.then(resolve, reject);
      }),
  };
}
