#include "textflag.h"

DATA shapOne<>+0(SB)/8, $1.0
GLOBL shapOne<>(SB), RODATA|NOPTR, $8

DATA shapInts<>+0(SB)/4, $0xffff
DATA shapInts<>+4(SB)/4, $0x3f800000
DATA shapInts<>+8(SB)/4, $0x20
GLOBL shapInts<>(SB), RODATA|NOPTR, $12

// WALK goes over the groups of trees. R8 has left, R9 step, R10 entry, R11 own,
// R12 feature, BX the table, R13 phi, DI work and SI counts the splits; S0 to S4
// are the first multiples of the size of a rule's points. The stack keeps how far
// it is: the group, the number of groups left, the twig, the leaf.
#define WALK(V0, V1, V2, V3, V4, V5, V6, ONE, S1, S2, S3, S4, L1, L4) \
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
	MOVQ    DI, R12; \
	MOVL    12(DX), CX; \
root: \
	VMOVUPD ONE, (R12); \
	ADDQ    $S1, R12; \
	DECQ    CX; \
	JNZ     root; \
	MOVL    (DX), CX; \
	ADDQ    SI, CX; \
	CMPQ    SI, CX; \
	JGE     leafless; \
down: \
	MOVL         (R10)(SI*4), R15; \
	VBROADCASTSD (R9)(SI*8), V1; \
	VBROADCASTSD (R8)(SI*8), V0; \
	VMOVUPD      (BX)(R15*1), V3; \
	MOVL         (R11)(SI*4), R15; \
	VMULPD       V3, V1, V2; \
	VMOVUPD      (DI)(R15*1), V4; \
	VSUBPD       V2, V0, V0; \
	VMULPD       V4, V2, V2; \
	VMULPD       V4, V0, V5; \
	VMOVUPD      V0, S2(R12); \
	VFNMADD231PD V3, V2, V2; \
	VSUBPD       V5, V4, V6; \
	VMOVUPD      V5, (R12); \
	VMOVUPD      V6, S1(R12); \
	VMOVUPD      V2, S3(R12); \
	ADDQ         $S4, R12; \
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
	VMOVUPD      (BX)(R15*1), V3; \
	VBROADCASTSD (DX), V4; \
	VBROADCASTSD 8(DX), V5; \
	MOVL         (R11)(SI*4), R15; \
	VMULPD       V3, V1, V2; \
	VSUBPD       V2, V0, V0; \
	VMULPD       (DI)(R15*1), V2, V2; \
	VFMADD231PD  V4, V0, V5; \
	VFNMADD231PD V3, V2, V2; \
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
	MOVL         12(DX), R8; \
	SHLQ         $L1, R8; \
	ADDQ         DI, R8; \
	MOVQ         CX, R10; \
	SHLQ         $L4, R10; \
	ADDQ         R10, R8; \
up: \
	DECQ        BX; \
	SUBQ        $S4, R8; \
	MOVL        (R11)(BX*4), R15; \
	VMOVUPD     (R8), V0; \
	VMOVUPD     S1(R8), V1; \
	VSUBPD      V1, V0, V2; \
	VFMADD231PD S2(R8), V2, V1; \
	MOVL        (R12)(BX*4), R9; \
	VMOVUPD     V1, (DI)(R15*1); \
	VMOVUPD     (R13)(R9*1), V3; \
	VFMADD231PD S3(R8), V2, V3; \
	VMOVUPD     V3, (R13)(R9*1); \
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

// func decideSixteen(a *shapArgs)
//
// The row is in Z16 to Z19.
TEXT ·decideSixteen(SB), NOSPLIT, $0-8
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
	MOVQ 96(AX), AX
	KMOVW     AX, K1
	VMOVUPS.Z (DX), K1, Z16
	SHRQ      $16, AX
	KMOVW     AX, K1
	VMOVUPS.Z 64(DX), K1, Z17
	SHRQ      $16, AX
	KMOVW     AX, K1
	VMOVUPS.Z 128(DX), K1, Z18
	SHRQ      $16, AX
	KMOVW     AX, K1
	VMOVUPS.Z 192(DX), K1, Z19
	VPBROADCASTD shapInts<>+8(SB), Z20
	VBROADCASTSD shapOne<>(SB), Z21
	XORQ  AX, AX

group:
	VMOVDQU32 (BX)(AX*4), Z0
	VMOVDQA64 Z0, Z1
	VMOVDQA64 Z0, Z2
	VPERMI2PS Z17, Z16, Z1
	VPERMI2PS Z19, Z18, Z2
	VPTESTMD  Z20, Z0, K1
	VMOVAPS   Z2, K1, Z1
	VCMPPS    $3, Z1, Z1, K1              // missing

	// Left, as 1 or 0, and less the share.
	VPMOVD2M  Z0, K2
	KANDW     K1, K2, K2
	VCMPPS    $0x12, (SI)(AX*4), Z1, K3
	KORW      K2, K3, K3
	KSHIFTRW  $8, K3, K4
	VMOVAPD.Z Z21, K3, Z4
	VMOVAPD.Z Z21, K4, Z5
	VMOVUPD   Z4, (R8)(AX*8)
	VMOVUPD   Z5, 64(R8)(AX*8)
	VSUBPD    (R12)(AX*8), Z4, Z4
	VSUBPD    64(R12)(AX*8), Z5, Z5
	VMOVUPD   Z4, (R9)(AX*8)
	VMOVUPD   Z5, 64(R9)(AX*8)

	// The entry, or the first where the feature is failed already.
	VPADDD      Z0, Z0, Z0
	VPMOVD2M    Z0, K2
	KANDW       K1, K2, K2
	VCMPPS      $0x12, (DI)(AX*4), Z1, K3
	VCMPPS      $0x1E, (R11)(AX*4), Z1, K4
	KORW        K3, K2, K2
	KORW        K4, K2, K2
	KNOTW       K2, K2
	VMOVDQU32.Z (R13)(AX*4), K2, Z4
	VMOVDQU32   Z4, (R10)(AX*4)

	ADDQ $16, AX
	DECQ CX
	JNZ  group
	VZEROUPPER
	RET

// func walkFour(a *shapArgs)
TEXT ·walkFour(SB), NOSPLIT, $32-8
	WALK(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, 32, 64, 96, 128, 5, 7)

// func walkEight(a *shapArgs)
TEXT ·walkEight(SB), NOSPLIT, $32-8
	WALK(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, 64, 128, 192, 256, 6, 8)
