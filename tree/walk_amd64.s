#include "textflag.h"

DATA even<>+0(SB)/8, $0x0000000200000000
DATA even<>+8(SB)/8, $0x0000000600000004
DATA even<>+16(SB)/8, $0x0000000a00000008
DATA even<>+24(SB)/8, $0x0000000e0000000c
DATA even<>+32(SB)/8, $0x0000001200000010
DATA even<>+40(SB)/8, $0x0000001600000014
DATA even<>+48(SB)/8, $0x0000001a00000018
DATA even<>+56(SB)/8, $0x0000001e0000001c
GLOBL even<>(SB), RODATA|NOPTR, $64

DATA walkInts<>+0(SB)/4, $1
DATA walkInts<>+4(SB)/4, $0xffff
DATA walkInts<>+8(SB)/4, $0x200000
GLOBL walkInts<>(SB), RODATA|NOPTR, $12

// LOAD brings the nodes numbered by I: thresholds to T, the upper words to M and
// their offsets to O. YI is the lower half of I; G and H are scratch.
#define LOAD(I, YI, YG, G, H, T, M, O) \
	VEXTRACTI64X4 $1, I, YG; \
	KXNORW        K1, K1, K1; \
	KXNORW        K2, K2, K2; \
	VPXORQ        H, H, H; \
	VPXORQ        T, T, T; \
	VPGATHERDQ    (BX)(YI*8), K1, H; \
	VPGATHERDQ    (BX)(YG*8), K2, T; \
	VMOVDQA64     T, G; \
	VMOVDQA64     Z20, T; \
	VMOVDQA64     Z21, M; \
	VPERMI2D      G, H, T; \
	VPERMI2D      G, H, M; \
	VPANDD        Z23, M, O

// STEP moves the node numbers I to the children the row goes to.
#define STEP(I, G, H, T, M, O) \
	VPSRLD    $16, M, G; \
	VMOVDQA64 G, H; \
	VPERMI2PS Z17, Z16, G; \
	VPERMI2PS Z19, Z18, H; \
	VPTESTMD  Z24, M, K1; \
	VMOVAPS   H, K1, G; \
	VCMPPS    $0x1E, T, G, K2; \
	VCMPPS    $3, G, G, K3; \
	VPMOVD2M  M, K4; \
	KANDW     K3, K4, K3; \
	KORW      K2, K3, K2; \
	VPADDD    O, I, I; \
	VPADDD    Z22, I, K2, I

// ADD adds the values of the leaves I to the sums.
#define ADD(I, YG, G, YH, H) \
	VPADDD        I, I, G; \
	KXNORW        K1, K1, K1; \
	VXORPS        H, H, H; \
	VGATHERDPS    12(R8)(G*8), K1, H; \
	VEXTRACTF64X4 $1, H, YG; \
	VCVTPS2PD     YH, H; \
	VCVTPS2PD     YG, G; \
	VADDPD        H, Z30, Z30; \
	VADDPD        G, Z31, Z31

// func walkVector(compact *uint64, nodes *node, roots *uint32, pairs int, row *float32, mask uint64, acc *[16]float64)
//
// Two groups of 16 trees go side by side, in Z0-Z5 and Z8-Z13. Z16-Z19 hold the
// row, Z20 and Z21 the even and odd numbers, Z22 one, Z23 the mask of the
// offset, Z24 bit 5 of the feature, Z30 and Z31 the sums.
TEXT ·walkVector(SB), NOSPLIT, $0-56
	MOVQ compact+0(FP), BX
	MOVQ nodes+8(FP), R8
	MOVQ roots+16(FP), SI
	MOVQ pairs+24(FP), CX
	MOVQ row+32(FP), DX
	MOVQ mask+40(FP), AX
	MOVQ acc+48(FP), DI

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

	VMOVDQU64    even<>(SB), Z20
	VPBROADCASTD walkInts<>+0(SB), Z22
	VPBROADCASTD walkInts<>+4(SB), Z23
	VPBROADCASTD walkInts<>+8(SB), Z24
	VPADDD       Z22, Z20, Z21
	VMOVUPD      (DI), Z30
	VMOVUPD      64(DI), Z31

pair:
	VMOVDQU32 (SI), Z0
	VMOVDQU32 64(SI), Z8

step:
	LOAD(Z0, Y0, Y1, Z1, Z2, Z3, Z4, Z5)
	LOAD(Z8, Y8, Y9, Z9, Z10, Z11, Z12, Z13)
	VPORD    Z5, Z13, Z6
	VPTESTMD Z6, Z6, K5
	KORTESTW K5, K5
	JEQ      leaves
	STEP(Z0, Z1, Z2, Z3, Z4, Z5)
	STEP(Z8, Z9, Z10, Z11, Z12, Z13)
	JMP      step

leaves:
	ADD(Z0, Y1, Z1, Y2, Z2)
	ADD(Z8, Y9, Z9, Y10, Z10)
	ADDQ $128, SI
	DECQ CX
	JNZ  pair

	VMOVUPD Z30, (DI)
	VMOVUPD Z31, 64(DI)
	VZEROUPPER
	RET
