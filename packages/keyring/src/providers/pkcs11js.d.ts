// It is compiled when it is installed, and is left out where there is no compiler: the rest builds without it.
declare module 'pkcs11js' {
  export const PKCS11: new () => object;
}
