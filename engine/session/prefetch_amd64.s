#include "textflag.h"

// func prefetch(r *record)
TEXT ·prefetch(SB), NOSPLIT, $0-8
	MOVQ r+0(FP), AX
	BYTE $0x0F; BYTE $0x0D; BYTE $0x08 // PREFETCHW (AX)
	RET
