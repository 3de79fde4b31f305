#include "textflag.h"

// func prefetchWrite(p unsafe.Pointer, stride uintptr, n int)
TEXT ·prefetchWrite(SB), NOSPLIT, $0-24
	MOVD p+0(FP), R0
	MOVD stride+8(FP), R1
	MOVD n+16(FP), R2
	B    test
next:
	PRFM (R0), PSTL1KEEP
	ADD  R1, R0
	SUB  $1, R2
test:
	CMP  $0, R2
	BGT  next
	RET

// func prefetchRead(p unsafe.Pointer, stride uintptr, n int)
TEXT ·prefetchRead(SB), NOSPLIT, $0-24
	MOVD p+0(FP), R0
	MOVD stride+8(FP), R1
	MOVD n+16(FP), R2
	B    test
next:
	PRFM (R0), PLDL1KEEP
	ADD  R1, R0
	SUB  $1, R2
test:
	CMP  $0, R2
	BGT  next
	RET

// func prefetchReadAt(base, desc unsafe.Pointer, n int)
TEXT ·prefetchReadAt(SB), NOSPLIT, $0-24
	MOVD base+0(FP), R0
	MOVD desc+8(FP), R1
	MOVD n+16(FP), R2
	B    test
next:
	MOVWU 8(R1), R3
	ADD  R0, R3
	PRFM (R3), PLDL1KEEP
	ADD  $16, R1
	SUB  $1, R2
test:
	CMP  $0, R2
	BGT  next
	RET

// func prefetchWriteAt(base, desc unsafe.Pointer, n int)
TEXT ·prefetchWriteAt(SB), NOSPLIT, $0-24
	MOVD base+0(FP), R0
	MOVD desc+8(FP), R1
	MOVD n+16(FP), R2
	B    test
next:
	MOVWU 8(R1), R3
	ADD  R0, R3
	PRFM (R3), PSTL1KEEP
	ADD  $16, R1
	SUB  $1, R2
test:
	CMP  $0, R2
	BGT  next
	RET
