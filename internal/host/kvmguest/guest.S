/*
 * The guest that proves KVM: a kernel of one page that does, in the order of a
 * Linux start, the things on which a KVM that is not one falls over.
 *
 * It is entered as Linux is with PVH: 32-bit protected mode, flat segments,
 * paging off (https://xenbits.xen.org/docs/unstable/misc/pvh.html). After each
 * step it writes that step's letter to the serial port, so that a guest that
 * stops says where. At the end it leaves QEMU through isa-debug-exit. It
 * needs neither memory contents nor devices beyond these two and the
 * interrupt controller in the CPU.
 *
 * After a change: go test -run TestCode -update (needs binutils).
 */
	.intel_syntax noprefix

	/* Memory above the code, cleared at the start. */
	.set	PML4,	0x200000
	.set	PDPT,	0x201000
	.set	PD0,	0x202000	/* the first GiB, mapped to itself */
	.set	PD1,	0x203000	/* the second, where the test page is */
	.set	PD3,	0x204000	/* the fourth, for the APIC */
	.set	PT,	0x205000	/* the test page's table */
	.set	IDT,	0x206000
	.set	STACK,	0x208000	/* grows down from here */
	.set	PAGEA,	0x208000	/* what the test page is mapped to */
	.set	PAGEB,	0x209000
	.set	TABLE,	0x300000	/* 1 MiB for the loop of the last step */
	.set	END,	0x400000

	.set	TEST,	0x40000000	/* the test page's virtual address */
	.set	APIC,	0xfee00000
	.set	SERIAL,	0x3f8
	.set	EXIT,	0xf4		/* isa-debug-exit */
	.set	TIMER,	0x20		/* the timer's interrupt vector */

	/* Write a letter. Uses rax and rdx. */
	.macro	say	letter
	mov	dx, SERIAL + 5
0:	in	al, dx
	test	al, 0x20		/* transmitter empty? */
	jz	0b
	mov	al, \letter
	mov	dx, SERIAL
	out	dx, al
	.endm

	.text
	.code32
	.globl	start
start:
	cli
	cld
	mov	esp, STACK
	say	'p'			/* protected mode */

	xor	eax, eax
	mov	edi, PML4
	mov	ecx, (END - PML4) / 4
	rep stosd

	/* Page tables: 2 MiB pages, present and writable. */
	mov	dword ptr [PML4], PDPT + 3
	mov	dword ptr [PDPT], PD0 + 3
	mov	dword ptr [PDPT + 8], PD1 + 3
	mov	dword ptr [PDPT + 24], PD3 + 3
	mov	dword ptr [PD1], PT + 3
	mov	edi, PD0
	mov	eax, 0x83
	mov	ecx, 512
1:	mov	[edi], eax
	add	eax, 0x200000
	add	edi, 8
	loop	1b
	/* Write-through and uncached, as Linux maps the APIC. */
	mov	dword ptr [PD3 + ((APIC >> 21) & 511) * 8], (APIC & 0xffe00000) + 0x9b

	/* Long mode: PAE and the SSE bits, then EFER.LME and .NXE, then paging. */
	mov	eax, cr4
	or	eax, 0x6a0		/* PAE, PGE, OSFXSR, OSXMMEXCPT */
	mov	cr4, eax
	mov	eax, PML4
	mov	cr3, eax
	mov	ecx, 0xc0000080
	rdmsr
	or	eax, 0x900
	wrmsr
	mov	eax, cr0
	and	eax, 0xfffffffb		/* not EM */
	or	eax, 0x80010022		/* PG, WP, NE, MP */
	mov	cr0, eax
	lgdt	gdtr
	.byte	0xea			/* far jump to the 64-bit segment */
	.long	long_mode
	.word	0x08

	.code64
long_mode:
	mov	eax, 0x10
	mov	ds, eax
	mov	es, eax
	mov	ss, eax
	xor	eax, eax
	mov	fs, eax
	mov	gs, eax
	mov	esp, STACK

	/* Every vector leads to stop but the two that are expected. */
	lea	rax, [rip + stop]
	xor	ecx, ecx
1:	call	set_gate
	inc	ecx
	cmp	ecx, 256
	jne	1b
	lea	rax, [rip + page_fault]
	mov	ecx, 14
	call	set_gate
	lea	rax, [rip + timer]
	mov	ecx, TIMER
	call	set_gate
	lidt	[rip + idtr]
	say	'l'			/* long mode */

	/* CPUID, and EFER must read as written, with LMA set by the CPU. */
	xor	eax, eax
	cpuid
	test	eax, eax
	jz	stop
	mov	ecx, 0xc0000080
	rdmsr
	and	eax, 0xd00
	cmp	eax, 0xd00
	jne	stop
	rdtsc
	mov	esi, eax
	rdtsc
	cmp	eax, esi
	je	stop
	say	'c'			/* CPUID and MSRs */

	/*
	 * Instructions that run on any CPU of 64 bits but that KVM's instruction
	 * emulator does not know: a "KVM" that interprets the guest's kernel stops
	 * at them. The Linux memory allocator uses cmpxchg16b from the start.
	 */
	mov	eax, 1
	cpuid
	bt	ecx, 13			/* cmpxchg16b */
	jnc	stop
	mov	edi, PAGEA
	xor	eax, eax
	xor	edx, edx
	mov	ebx, 0x1234
	mov	ecx, 0x5678
	lock cmpxchg16b [rdi]
	jne	stop
	cmp	qword ptr [rdi], 0x1234
	jne	stop
	cmp	qword ptr [rdi + 8], 0x5678
	jne	stop
	movdqu	xmm0, [rdi]
	paddq	xmm0, xmm0
	movdqu	[rdi], xmm0
	cmp	qword ptr [rdi], 0x2468
	jne	stop
	say	'i'			/* instructions */

	/*
	 * Page faults. r15 is the entry that the handler puts into the table,
	 * r14 counts. First a page that is missing, then another one in its place
	 * after invlpg, then a write to one that is read-only.
	 */
	xor	r14d, r14d
	mov	r15d, PAGEA + 3
	mov	ebx, TEST
	mov	dword ptr [rbx], 0xa1
	cmp	dword ptr [PAGEA], 0xa1
	jne	stop
	mov	qword ptr [PT], PAGEB + 1
	invlpg	[rbx]
	cmp	dword ptr [rbx], 0	/* page B has not been written */
	jne	stop
	mov	r15d, PAGEB + 3
	mov	dword ptr [rbx], 0xb2
	cmp	dword ptr [PAGEB], 0xb2
	jne	stop
	cmp	r14d, 2
	jne	stop
	say	'f'			/* faults */

	/*
	 * The timer of the CPU's own interrupt controller: three times out of
	 * hlt, then once out of running code. r13 counts. A lost interrupt or
	 * wake-up leaves the guest here for ever.
	 */
	mov	al, 0xff		/* no interrupts from the old controllers */
	out	0x21, al
	out	0xa1, al
	mov	ecx, 0x1b
	rdmsr
	or	eax, 0x800		/* APIC base: enabled */
	wrmsr
	mov	ebx, APIC
	mov	dword ptr [rbx + 0xf0], 0x1ff	/* enabled, spurious vector */
	mov	dword ptr [rbx + 0x3e0], 0xb	/* count undivided */
	mov	dword ptr [rbx + 0x320], TIMER	/* one shot */
	xor	r13d, r13d
1:	cli
	mov	dword ptr [rbx + 0x380], 1000000	/* 1 ms of 1 GHz */
	sti
	hlt
	cmp	r13d, 3
	jb	1b
	say	'h'			/* hlt and timer */
	mov	dword ptr [rbx + 0x380], 5000000
1:	pause
	cmp	r13d, 4
	jb	1b
	cli
	say	't'			/* timer in running code */

	/*
	 * The speed of a CPU, not of an interpreter: 2^23 rounds of arithmetic and
	 * memory, some tens of milliseconds. The host's deadline is the measure.
	 */
	mov	eax, 1
	mov	rsi, 0x5851f42d4c957f2d
	mov	ecx, 1 << 23
1:	imul	rax, rsi
	inc	rax
	mov	rdx, rax
	shr	rdx, 47			/* 17 bits: one of 131072 words */
	xor	rax, [TABLE + rdx * 8]
	mov	[TABLE + rdx * 8], rax
	dec	ecx
	jnz	1b
	mov	rdx, 0x1971103019c8	/* TestGuestChecksum computes it too */
	cmp	rax, rdx
	jne	stop
	say	's'			/* speed */
	say	'\n'

	mov	eax, 0x10		/* QEMU exits with 0x10 << 1 | 1 */
	jmp	exit

	/* Anything unexpected ends here; the last letter says where it happened. */
stop:
	cli
	say	'!'
	mov	eax, 0x11
exit:
	mov	dx, EXIT
	out	dx, eax
1:	hlt				/* QEMU may take a moment to exit */
	jmp	1b

	/* Make the interrupt gate ecx lead to rax. Uses rdx. */
set_gate:
	mov	edx, ecx
	shl	edx, 4
	mov	[IDT + rdx], ax
	mov	word ptr [IDT + rdx + 2], 0x08
	mov	word ptr [IDT + rdx + 4], 0x8e00
	ror	rax, 16
	mov	[IDT + rdx + 6], ax
	ror	rax, 48
	ret

page_fault:
	push	rax
	mov	rax, cr2
	cmp	rax, TEST
	jne	stop
	mov	[PT], r15
	invlpg	[rax]
	inc	r14d
	pop	rax
	add	rsp, 8			/* the error code */
	iretq

timer:
	inc	r13d
	mov	dword ptr [rbx + 0xb0], 0	/* end of interrupt */
	iretq

	.balign	8
gdt:	.quad	0
	.quad	0x00af9b000000ffff	/* 0x08: 64-bit code */
	.quad	0x00cf93000000ffff	/* 0x10: data */
gdtr:	.word	gdtr - gdt - 1
	.long	gdt
idtr:	.word	4095
	.quad	IDT
