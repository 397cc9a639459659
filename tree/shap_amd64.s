#include "textflag.h"

DATA shapOne<>+0(SB)/8, $1.0
GLOBL shapOne<>(SB), RODATA|NOPTR, $8

DATA shapInts<>+0(SB)/4, $0xffff
DATA shapInts<>+4(SB)/4, $0x3f800000
GLOBL shapInts<>(SB), RODATA|NOPTR, $8

// WALK goes over the trees. R8 has left, R9 step, R10 entry, R11 own, R12 feature,
// BX the table, R13 phi, DI slots and SI counts the splits. The
// stack keeps how far it is: the tree, the number of trees left, the twig, the
// leaf.
#define WALK(V0, V1, V2, V3, V4, V5, V6, ONE) \
	MOVQ         a+0(FP), AX; \
	MOVQ         (AX), DX; \
	MOVQ         8(AX), CX; \
	MOVQ         56(AX), R12; \
	MOVQ         64(AX), R13; \
	MOVQ         DX, 0(SP); \
	MOVQ         CX, 8(SP); \
	MOVQ         R12, 16(SP); \
	MOVQ         R13, 24(SP); \
	VBROADCASTSD shapOne<>(SB), ONE; \
	XORQ         SI, SI; \
tree: \
	MOVQ    0(SP), DX; \
	MOVQ    16(AX), R8; \
	MOVQ    24(AX), R9; \
	MOVQ    32(AX), R10; \
	MOVQ    40(AX), R11; \
	MOVQ    72(AX), BX; \
	MOVQ    88(AX), DI; \
	MOVQ    96(AX), R13; \
	LEAQ    64(DI), R12; \
	VMOVUPD ONE, (DI); \
	MOVL    (DX), CX; \
	ADDQ    SI, CX; \
	CMPQ    SI, CX; \
	JGE     leafless; \
down: \
	MOVL         (R10)(SI*4), R15; \
	VBROADCASTSD (R9)(SI*8), V1; \
	VBROADCASTSD (R8)(SI*8), V0; \
	VMULPD       (BX)(R15*1), V1, V2; \
	VSUBPD       V2, V0, V3; \
	VMULPD       64(BX)(R15*1), V2, V2; \
	MOVL         (R11)(SI*4), R15; \
	VMOVUPD      (DI)(R15*1), V4; \
	VMULPD       V4, V2, V2; \
	VMULPD       V4, V3, V5; \
	VSUBPD       V5, V4, V6; \
	VMOVUPD      V3, (R13); \
	VMOVUPD      V2, 64(R13); \
	VMOVUPD      V5, (R12); \
	VMOVUPD      V6, 64(R12); \
	ADDQ         $128, R13; \
	ADDQ         $128, R12; \
	INCQ         SI; \
	CMPQ         SI, CX; \
	JLT          down; \
	MOVL         8(DX), CX; \
	MOVQ         24(SP), R15; \
	TESTQ        CX, CX; \
	JEQ          leafless; \
leaf: \
	MOVQ         (R15), R12; \
	VBROADCASTSD 8(R15), V0; \
	VMOVUPD      V0, (DI)(R12*1); \
	ADDQ         $16, R15; \
	DECQ         CX; \
	JNZ          leaf; \
	MOVQ         R15, 24(SP); \
leafless: \
	MOVL 4(DX), CX; \
	ADDQ SI, CX; \
	MOVQ 48(AX), R12; \
	MOVQ 80(AX), R13; \
	MOVQ 16(SP), DX; \
twig: \
	MOVL         (R10)(SI*4), R15; \
	VBROADCASTSD (R9)(SI*8), V1; \
	VBROADCASTSD (R8)(SI*8), V0; \
	VBROADCASTSD (DX), V4; \
	VBROADCASTSD 8(DX), V5; \
	VMULPD       (BX)(R15*1), V1, V2; \
	VSUBPD       V2, V0, V3; \
	VMULPD       64(BX)(R15*1), V2, V2; \
	VFMADD231PD  V4, V3, V5; \
	MOVL         (R11)(SI*4), R15; \
	VMULPD       (DI)(R15*1), V2, V2; \
	VMOVUPD      V5, (DI)(R15*1); \
	MOVL         (R12)(SI*4), R15; \
	VMOVUPD      (R13)(R15*1), V6; \
	VFMADD231PD  V4, V2, V6; \
	VMOVUPD      V6, (R13)(R15*1); \
	ADDQ         $16, DX; \
	INCQ         SI; \
	CMPQ         SI, CX; \
	JLT          twig; \
	MOVQ         DX, 16(SP); \
	MOVQ         0(SP), DX; \
	MOVL         4(DX), CX; \
	MOVQ         SI, BX; \
	SUBQ         CX, BX; \
	MOVL         (DX), CX; \
	TESTQ        CX, CX; \
	JEQ          next; \
	MOVQ         CX, R10; \
	SHLQ         $7, R10; \
	LEAQ         64(DI)(R10*1), R8; \
	MOVQ         96(AX), R9; \
	ADDQ         R10, R9; \
up: \
	DECQ        BX; \
	SUBQ        $128, R8; \
	SUBQ        $128, R9; \
	VMOVUPD     (R8), V0; \
	VMOVUPD     64(R8), V1; \
	VSUBPD      V1, V0, V2; \
	VFMADD231PD (R9), V2, V1; \
	MOVL        (R11)(BX*4), R15; \
	VMOVUPD     V1, (DI)(R15*1); \
	MOVL        (R12)(BX*4), R15; \
	VMOVUPD     (R13)(R15*1), V3; \
	VFMADD231PD 64(R9), V2, V3; \
	VMOVUPD     V3, (R13)(R15*1); \
	DECQ        CX; \
	JNZ         up; \
next: \
	ADDQ $16, DX; \
	MOVQ DX, 0(SP); \
	DECQ 8(SP); \
	JNZ  tree; \
	VZEROUPPER; \
	RET

// func decideEight(a *shapArgs)
//
// Comparisons leave their answer in the sign bit, which is all that is used of
// it; missingLeft and missingFails are the two topmost bits of a column.
TEXT ·decideEight(SB), NOSPLIT, $0-8
	MOVQ a+0(FP), AX
	MOVQ 16(AX), R8
	MOVQ 24(AX), R9
	MOVQ 32(AX), R10
	MOVQ 104(AX), CX
	MOVQ 112(AX), DX
	MOVQ 120(AX), BX
	MOVQ 128(AX), SI
	MOVQ 136(AX), DI
	MOVQ 144(AX), R11
	MOVQ 152(AX), R12
	MOVQ 160(AX), R13
	VPBROADCASTD shapInts<>+0(SB), Y15
	VPBROADCASTD shapInts<>+4(SB), Y14
	VPXOR Y13, Y13, Y13
	XORQ  AX, AX

group:
	VMOVDQU    (BX)(AX*4), Y0
	VPAND      Y15, Y0, Y1
	VPCMPEQD   Y2, Y2, Y2
	VPXOR      Y3, Y3, Y3
	VGATHERDPS Y2, (DX)(Y1*4), Y3
	VCMPPS     $3, Y3, Y3, Y4             // missing

	// Left, as 1 or 0, and less the share.
	VCMPPS    $0x12, (SI)(AX*4), Y3, Y5
	VANDPS    Y0, Y4, Y6
	VORPS     Y6, Y5, Y5
	VPSRAD    $31, Y5, Y5
	VANDPS    Y14, Y5, Y5
	VEXTRACTF128 $1, Y5, X6
	VCVTPS2PD X5, Y5
	VCVTPS2PD X6, Y6
	VMOVUPD   Y5, (R8)(AX*8)
	VMOVUPD   Y6, 32(R8)(AX*8)
	VSUBPD    (R12)(AX*8), Y5, Y5
	VSUBPD    32(R12)(AX*8), Y6, Y6
	VMOVUPD   Y5, (R9)(AX*8)
	VMOVUPD   Y6, 32(R9)(AX*8)

	// The entry, or the first where the feature is failed already.
	VPADDD    Y0, Y0, Y0
	VANDPS    Y0, Y4, Y4
	VCMPPS    $0x12, (DI)(AX*4), Y3, Y5
	VCMPPS    $0x1E, (R11)(AX*4), Y3, Y6
	VORPS     Y5, Y4, Y4
	VORPS     Y6, Y4, Y4
	VMOVUPS   (R13)(AX*4), Y5
	VBLENDVPS Y4, Y13, Y5, Y5
	VMOVUPS   Y5, (R10)(AX*4)

	ADDQ $8, AX
	DECQ CX
	JNZ  group
	VZEROUPPER
	RET

// func walkFour(a *shapArgs)
TEXT ·walkFour(SB), NOSPLIT, $32-8
	WALK(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7)

// func walkEight(a *shapArgs)
TEXT ·walkEight(SB), NOSPLIT, $32-8
	WALK(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7)
