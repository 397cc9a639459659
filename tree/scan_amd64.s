#include "textflag.h"

DATA lanes8<>+0(SB)/8, $0
DATA lanes8<>+8(SB)/8, $1
DATA lanes8<>+16(SB)/8, $2
DATA lanes8<>+24(SB)/8, $3
DATA lanes8<>+32(SB)/8, $4
DATA lanes8<>+40(SB)/8, $5
DATA lanes8<>+48(SB)/8, $6
DATA lanes8<>+56(SB)/8, $7
GLOBL lanes8<>(SB), RODATA|NOPTR, $64

// func scanVector(h *column, vectors int, a *vectorArgs)
//
// Z0 running sums, Z1 scratch, Z2-Z7 the scores, Z8-Z11 each lane's best
// numerator, denominator, bin and sums, Z12 bin numbers, Z13 carry, Z14-Z26
// constants. The order of operations is that of (*scanner).scan.
TEXT ·scanVector(SB), NOSPLIT, $0-24
	MOVQ h+0(FP), SI
	MOVQ vectors+8(FP), CX
	MOVQ a+16(FP), DI

	VPBROADCASTQ 0(DI), Z13
	VMOVQ        8(DI), X14
	VMOVQ        16(DI), X15
	VPBROADCASTQ 24(DI), Z16
	VPBROADCASTQ 32(DI), Z17
	VPBROADCASTQ 40(DI), Z18
	VPBROADCASTQ 48(DI), Z19
	VPBROADCASTQ 56(DI), Z20
	VBROADCASTSD 64(DI), Z21
	VBROADCASTSD 72(DI), Z22
	VBROADCASTSD 80(DI), Z23
	VMOVUPD      88(DI), Z8
	VMOVUPD      152(DI), Z9
	VMOVDQU64    216(DI), Z10
	VMOVDQU64    280(DI), Z11
	VMOVDQU64    lanes8<>(SB), Z12
	VPXORQ       Z24, Z24, Z24
	MOVQ         $7, AX
	VPBROADCASTQ AX, Z25
	MOVQ         $8, AX
	VPBROADCASTQ AX, Z26

loop:
	VMOVDQU64 (SI), Z0
	VALIGNQ   $7, Z24, Z0, Z1
	VPADDQ    Z1, Z0, Z0
	VALIGNQ   $6, Z24, Z0, Z1
	VPADDQ    Z1, Z0, Z0
	VALIGNQ   $4, Z24, Z0, Z1
	VPADDQ    Z1, Z0, Z0
	VPADDQ    Z13, Z0, Z0
	VPERMQ    Z0, Z25, Z13

	VPANDQ   Z17, Z0, Z1
	VPCMPQ   $5, Z18, Z1, K1
	VPCMPQ   $2, Z19, Z1, K1, K1
	VPCMPQ   $1, Z20, Z12, K1, K1
	KORTESTB K1, K1
	JEQ      next

	VPSRAQ    X14, Z0, Z2
	VCVTQQ2PD Z2, Z2
	VPSRLQ    X15, Z0, Z3
	VPANDQ    Z16, Z3, Z3
	VCVTQQ2PD Z3, Z3
	VADDPD    Z21, Z3, Z3
	VSUBPD    Z2, Z22, Z4
	VSUBPD    Z3, Z23, Z5
	VMULPD    Z2, Z2, Z2
	VMULPD    Z5, Z2, Z2
	VMULPD    Z4, Z4, Z4
	VMULPD    Z3, Z4, Z4
	VADDPD    Z4, Z2, Z2
	VMULPD    Z5, Z3, Z3
	VMULPD    Z9, Z2, Z6
	VMULPD    Z3, Z8, Z7
	VCMPPD    $0x1E, Z7, Z6, K1, K2
	VMOVAPD   Z2, K2, Z8
	VMOVAPD   Z3, K2, Z9
	VMOVDQA64 Z12, K2, Z10
	VMOVDQA64 Z0, K2, Z11

next:
	VPADDQ Z26, Z12, Z12
	ADDQ   $64, SI
	DECQ   CX
	JNZ    loop

	VMOVUPD   Z8, 88(DI)
	VMOVUPD   Z9, 152(DI)
	VMOVDQU64 Z10, 216(DI)
	VMOVDQU64 Z11, 280(DI)
	VZEROUPPER
	RET

// func cpuid(leaf, sub uint32) (a, b, c, d uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL sub+4(FP), CX
	CPUID
	MOVL AX, a+8(FP)
	MOVL BX, b+12(FP)
	MOVL CX, c+16(FP)
	MOVL DX, d+20(FP)
	RET

// func xgetbv() uint32
TEXT ·xgetbv(SB), NOSPLIT, $0-4
	XORL CX, CX
	XGETBV
	MOVL AX, ret+0(FP)
	RET
