#include "textflag.h"

// func prefetchWrite(p unsafe.Pointer, stride uintptr, n int)
TEXT ·prefetchWrite(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), AX
	MOVQ stride+8(FP), DX
	MOVQ n+16(FP), CX
	JMP  test
next:
	BYTE $0x0F; BYTE $0x0D; BYTE $0x08 // PREFETCHW (AX)
	ADDQ DX, AX
	DECQ CX
test:
	TESTQ CX, CX
	JGT  next
	RET

// func prefetchRead(p unsafe.Pointer, stride uintptr, n int)
TEXT ·prefetchRead(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), AX
	MOVQ stride+8(FP), DX
	MOVQ n+16(FP), CX
	JMP  test
next:
	PREFETCHT0 (AX)
	ADDQ DX, AX
	DECQ CX
test:
	TESTQ CX, CX
	JGT  next
	RET

// func prefetchReadAt(base, desc unsafe.Pointer, n int)
TEXT ·prefetchReadAt(SB), NOSPLIT, $0-24
	MOVQ base+0(FP), BX
	MOVQ desc+8(FP), SI
	MOVQ n+16(FP), CX
	JMP  test
next:
	MOVL 8(SI), AX
	PREFETCHT0 (BX)(AX*1)
	ADDQ $16, SI
	DECQ CX
test:
	TESTQ CX, CX
	JGT  next
	RET

// func prefetchWriteAt(base, desc unsafe.Pointer, n int)
TEXT ·prefetchWriteAt(SB), NOSPLIT, $0-24
	MOVQ base+0(FP), BX
	MOVQ desc+8(FP), SI
	MOVQ n+16(FP), CX
	JMP  test
next:
	MOVL 8(SI), AX
	ADDQ BX, AX
	BYTE $0x0F; BYTE $0x0D; BYTE $0x08 // PREFETCHW (AX)
	ADDQ $16, SI
	DECQ CX
test:
	TESTQ CX, CX
	JGT  next
	RET
