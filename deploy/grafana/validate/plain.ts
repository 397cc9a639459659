/** What JSON may hold of a type: its enums by their values, and any key left out, for which Grafana has a default. */
export type Plain<T> = unknown extends T ? unknown : T extends boolean ? T : T extends string ? `${T}` :
  T extends number ? (number extends T ? number : `${T}` extends `${infer N extends number}` ? N : T) :
  T extends (infer U)[] ? Plain<U>[] : T extends object ? {[K in keyof T]?: Plain<T[K]>} : T;
