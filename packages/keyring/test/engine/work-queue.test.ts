import { expect, test } from 'vitest';
import { WorkQueue } from '../../src/rotation/work-queue.ts';

test('things come in their order, those that wait when their moment has come', () => {
  const queue = new WorkQueue<string>();
  queue.push('a');
  queue.pushLater('late', 20);
  queue.pushLater('soon', 10);
  queue.push('b');
  expect(queue.size).toBe(4);
  expect(queue.soonest).toBe(10);
  expect([queue.take(0), queue.take(0), queue.take(0)]).toEqual(['a', 'b', undefined]);
  expect([queue.take(10), queue.take(19)]).toEqual(['soon', undefined]);
  expect(queue.soonest).toBe(20);
  queue.push('c');
  expect([queue.take(20), queue.take(20), queue.take(20)]).toEqual(['c', 'late', undefined]);
  expect(queue.size).toBe(0);
  expect(queue.soonest).toBe(Infinity);
});

test('a quarter of a million wait at once', () => {
  const queue = new WorkQueue<number>();
  const count = 250_000;
  for (let number = 0; number < count; number++) queue.pushLater(number, number % 2);
  let sum = 0;
  for (let taken = queue.take(1); taken !== undefined; taken = queue.take(1)) sum += taken;
  expect(sum).toBe((count * (count - 1)) / 2);
});
