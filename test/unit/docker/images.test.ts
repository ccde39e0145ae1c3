import { describe, expect, test } from 'vitest';
import { splitReference } from '../../../agent/backends/docker/images.ts';

describe("an image's reference", () => {
  test.for([
    ['python', 'python', 'latest'],
    ['python:3.13-slim', 'python', '3.13-slim'],
    ['registry.example:5000/team/python', 'registry.example:5000/team/python', 'latest'],
    ['registry.example:5000/team/python:1', 'registry.example:5000/team/python', '1'],
    ['python@sha256:ab', 'python', 'sha256:ab'],
    ['python:3@sha256:ab', 'python:3', 'sha256:ab'],
  ])('%s is %s and %s', ([name, fromImage, tag]) => {
    expect(splitReference(name as string)).toEqual({ fromImage, tag });
  });
});
